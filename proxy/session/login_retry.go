package session

import (
	"context"
	"errors"
	"time"

	"imapproxy/proxy/upstream"
)

// blame decides, for one client's login, what a failed login at a backend counts
// against and whether it is worth another attempt.
type blame struct {
	p         *preLogin
	tried     []string // backends that aren't to be tried again
	roomMade  bool     // waiting connections were closed for this login
	confirmed bool     // a backend that had closed a login was found well, and tried again
}

// again says whether another attempt is worth it, and waits until it is time. The cases,
// the first that applies:
//
//   - the user is at another backend by now, or on the way there: the router is asked anew, and it counts against nothing.
//   - the backend refuses for want of room, or its answer may mean that, and connections
//     to it that waited were closed: the same backend, once.
//   - the backend can't be reached: it counts, another backend.
//   - the backend is full: another backend, and it doesn't count.
//   - the backend closed the connection after bytes of the user's were sent: a probe is
//     made. If it fails the backend can't be reached; if it succeeds the same backend is
//     tried once more, and then the user's bytes are the likeliest cause.
//   - the backend has as many of the user's connections as it allows, and some of them
//     waited: they are closed, the same backend.
//   - all else is about the user, or the proxy: no.
func (b *blame) again(ctx context.Context, t upstream.Target, login upstream.Auth, err error) bool {
	if elsewhere := new(upstream.Elsewhere); errors.As(err, &elsewhere) {
		return true
	}
	fault := upstream.FaultOf(err)
	room := b.p.set.Dialer.Room()
	if fault == upstream.FaultBackend && errors.Is(err, upstream.ErrTimeout) && room.Full(t.ID) {
		fault = upstream.FaultFull
	}
	var down *upstream.Unavailable
	if !b.roomMade && errors.As(err, &down) && down.MayBeFull() && room.Refused(t.ID, fault == upstream.FaultFull) {
		b.roomMade = true
		b.p.env.Telemetry.Retry("room")
		return pause(ctx, limitPause)
	}
	switch fault {
	case upstream.FaultBackend:
		b.unreachable(t, err)
		return true
	case upstream.FaultFull:
		b.p.env.Telemetry.Retry("full")
		b.tried = append(b.tried, t.ID)
		b.p.log().Warn("backend is full", "backend", t.Name, "error", err)
		return true
	case upstream.FaultUnsure:
		probe := b.p.env.Probes.Probe(ctx, t)
		switch {
		case probe != nil && upstream.FaultOf(probe) == upstream.FaultBackend && !room.Excuses(t.ID, probe):
			b.unreachable(t, probe)
			return true
		case probe == nil && !b.confirmed:
			b.confirmed = true
			b.p.env.Telemetry.Retry("closed")
			return true
		}
		b.p.log().Warn("backend closed the connection during this user's login, and is well otherwise", "backend", t.Name, "error", err)
		return false
	}
	return b.p.refusedAt(ctx, t, login, err)
}

// unreachable reports a backend that can't be reached.
func (b *blame) unreachable(t upstream.Target, err error) {
	b.p.env.Probes.Failed(t.ID, err)
	b.p.env.Telemetry.Retry(stageOf(err))
	b.tried = append(b.tried, t.ID)
	b.p.log().Warn("backend can't be reached", "backend", t.Name, "error", err)
}

// stageOf is where a login failed.
func stageOf(err error) string {
	var down *upstream.Unavailable
	if errors.As(err, &down) {
		return down.Stage
	}
	return ""
}

// pause waits; false: ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

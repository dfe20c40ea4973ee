package session

import (
	"context"
	"errors"

	"imapproxy/proxy/upstream"
)

// blame decides, for one client's login, which component a failed login at a backend is charged to, and
// whether another attempt is worthwhile.
type blame struct {
	p         *preLogin
	tried     []string // backends that must not be tried again
	roomMade  bool     // idle connections were closed for this login
	confirmed bool     // a probe has succeeded at a backend that had closed a login, and the backend is tried again
}

// again says whether another attempt is worthwhile, and waits until it is time for it. The first case that
// applies decides:
//
//   - The user is at another backend by now, or is being moved: the router is asked again. No component is
//     charged.
//   - The backend refuses for lack of room, or its answer may mean that, and idle connections to it were
//     closed: the same backend, once.
//   - The backend can't be reached: it is charged, another backend.
//   - The backend is full: another backend; it isn't charged.
//   - The backend closed the connection after bytes of the user's were sent: it is probed. If the probe
//     fails, the backend can't be reached. If it succeeds, the same backend is tried once more; after that the
//     user's bytes are the likeliest cause.
//   - The user has reached the backend's limit of connections, and some of the connections are idle in the
//     pool: they are closed, the same backend.
//   - Any other error concerns the user or the proxy: no further attempt.
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
		b.p.log().Warn("backend closed the connection during this user's login, and answers probes", "backend", t.Name, "error", err)
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

// stageOf returns the stage at which a login failed.
func stageOf(err error) string {
	var down *upstream.Unavailable
	if errors.As(err, &down) {
		return down.Stage
	}
	return ""
}

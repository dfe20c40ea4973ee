package session

import (
	"context"
	"errors"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// A session that ends leaves its connection to the pool, and its user's next login
// finds it there: many clients log in for a few commands, every few minutes.

const (
	// retireWithin bounds making a connection fit for the pool. Nobody waits for it.
	retireWithin = 5 * time.Second
	// probeWithin bounds the question whether a warm connection still answers.
	probeWithin = 2 * time.Second
)

// pooled takes a connection that an earlier session of the user's has left, for a
// login whose credential is right (proof) or which the pool may still take for right.
// nil: there is none.
func (p *preLogin) pooled(ctx context.Context, a *attempt, t upstream.Target, login upstream.Auth) *upstream.Conn {
	o := &p.set.Park
	if o.Hub == nil || !o.Pool.Keeps() {
		return nil
	}
	c := o.Pool.Take(o.Pool.Key(login.User, t, login, upstream.UseSession, ""), a.proof, p.addr.Addr())
	if c == nil {
		return nil
	}
	begun := p.env.Now()
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	imap := resync.NewClient(c.Conn, c.Caps, resync.Options{})
	err := imap.Noop(ctx) // a machine that has gone says nothing
	broken := imap.Release()
	err = errors.Join(err, broken)
	a.trace.Add(telemetry.PhasePool, begun, p.env.Now(), err)
	if err != nil {
		_ = c.Abort()
		return nil
	}
	return c
}

// refused closes what waits in the pool for the user of k, where a backend doesn't let him in: all
// that was opened with a credential that it takes no more, and all of his where it has as
// many of his connections as it allows. Then another attempt may come through (again).
func (o *ParkOptions) refused(k upstream.PoolKey, user string, err error) (again bool) {
	var refused *upstream.Refused
	var down *upstream.Unavailable
	switch {
	case errors.As(err, &refused):
		o.Pool.ForgetCredential(k)
	case errors.As(err, &down) && down.AtLimit():
		return o.Pool.ForgetUser(user) > 0
	}
	return false
}

// limitPause is how long a backend has to notice that connections were closed.
const limitPause = 250 * time.Millisecond

// refusedAt says whether a login that a backend has refused is worth another attempt, and waits
// until it's time.
func (p *preLogin) refusedAt(ctx context.Context, t upstream.Target, login upstream.Auth, err error) (again bool) {
	var refused *upstream.Refused
	if errors.As(err, &refused) {
		p.env.refusedCredential(login.User, login.Password, p.addr.Addr(), nil)
	}
	o := &p.set.Park
	if o.Hub == nil || !o.refused(o.Pool.Key(login.User, t, login, upstream.UseSession, ""), login.User, err) {
		return false
	}
	return pause(ctx, limitPause)
}

// reusable says whether the session's connection is to serve another: nothing is
// under way on it, and nothing that was said has left a state behind that can't be
// taken back. idle says that it may be in IDLE. What the backend has answered is with the
// client then.
func (s *Session) reusable(idle bool) bool {
	s.down.followMu.Lock()
	defer s.down.followMu.Unlock()
	o := &s.set.Park
	if o.Hub == nil || !o.Pool.Keeps() || s.env.Settings().Park.Hub == nil { // switched off since
		return false
	}
	return s.inFlight.LeavesNothing(idle)
}

// interceptLogout answers LOGOUT for the backend, whose connection stays.
func (s *Session) interceptLogout(h wire.CommandHead) bool {
	if h.Verb != wire.Logout || len(h.Args) > 0 || !s.reusable(false) {
		return false
	}
	_ = s.out.say([]byte("* BYE Logging out\r\n" + string(h.Tag) + " OK Logout completed\r\n"))
	s.reusing.Store(true)
	return true
}

// mayReuse takes back what has interrupted the relay, and says whether nobody has severed the session.
func (s *Session) mayReuse(b *upstream.Conn) bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	if s.aborted.Load() {
		return false
	}
	b.Rearm(conn.Both)
	return true
}

// releaseForReuse gives the connection of a session that has ended to the pool, if it is
// fit for it, and says whether it did. Both readers are at rest.
func (s *Session) releaseForReuse(b *upstream.Conn) bool {
	if r := s.Reason(); !s.reusing.Load() || r != ReasonLogout && r != ReasonClientClosed {
		return false
	}
	if !s.down.scan.AtStart() || s.down.err != nil || s.down.broken != nil || s.down.rewrite || len(b.Kept()) > 0 || s.up.err != nil {
		return false
	}
	if !s.mayReuse(b) {
		return false
	}
	b.Caps = s.caps.list
	t := &s.inFlight.Client
	tag := s.inFlight.IdleTag()
	ctx, cancel := context.WithTimeout(context.Background(), retireWithin)
	defer cancel()
	imap := resync.NewClient(b.Conn, b.Caps, resync.Options{Selected: s.inFlight.Selected(), ReadOnly: t.Mailbox.ReadOnly, Messages: t.Mailbox.Exists, Enabled: t.Enabled, TagInUse: tag})
	var err error
	if tag != "" {
		_, err = imap.EndIdle(ctx, tag, nil)
	}
	if err == nil {
		err = imap.Deselect(ctx)
	}
	broken := imap.Release()
	if err != nil || broken != nil {
		return false
	}
	s.give(b, upstream.Condition{})
	return true
}

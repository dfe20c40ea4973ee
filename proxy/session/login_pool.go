package session

import (
	"context"
	"errors"
	"time"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// probeWithin bounds the NOOP that checks whether a pooled connection still answers.
const probeWithin = 2 * time.Second

// pooled takes a connection that an earlier session of the user has left, for a login whose credential is
// proved (proof) or is still trusted by the pool. It returns nil if there is none.
func (p *preLogin) pooled(ctx context.Context, a *attempt, t upstream.Target, login upstream.Auth) *upstream.Conn {
	o := &p.set.Park
	if o.Hub == nil || !o.Pool.Keeps() || login.Mechanism != "" { // a token may have expired since the backend has seen it
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
	err := imap.Noop(ctx) // a machine that has gone away doesn't answer
	broken := imap.Release()
	err = errors.Join(err, broken)
	a.trace.Add(telemetry.PhasePool, begun, p.env.Now(), err)
	if err != nil {
		_ = c.Abort()
		return nil
	}
	return c
}

// limitPause is the time that a backend is given to notice that connections were closed.
const limitPause = 250 * time.Millisecond

// refusedAt says whether a refused login is worth another attempt. If so, it waits for limitPause first.
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

// pause waits for d. It returns false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"imapproxy/routing/agree"
)

// Errors of Claim. Both are temporary: NO [UNAVAILABLE] to the client.
var (
	// ErrWait: the proxies didn't agree on the user within the time given.
	ErrWait = errors.New("the proxies haven't agreed on the user in time")
	// ErrRefused: the user can't be served now, and waiting doesn't help.
	ErrRefused = errors.New("the user can't be served now")
)

// Hold is a connection's right to be: it is claimed before the connection is dialled, and released once the connection's end is seen.
type Hold struct {
	// Backend is where the connection may go.
	Backend string
	// Epoch is that of the fleet that this proxy went by then: the backend is in it.
	Epoch uint64

	cluster  *Cluster
	user     string
	ending   atomic.Bool
	released atomic.Bool
}

// Claim asks where a connection of the user may be made, and waits, up to limit, where the proxies have yet to agree. home is the
// user's placement, "" where there is none. For a user who is where the function says it neither waits nor asks Consul.
func (c *Cluster) Claim(ctx context.Context, limit time.Duration, user, home string) (*Hold, error) {
	var timer *time.Timer
	for {
		c.mu.Lock()
		answer := c.member.Claim(user, home, time.Now())
		hold, err := c.given(answer, user)
		changed := c.after()
		c.mu.Unlock()
		if err == nil || !errors.Is(err, ErrWait) || limit <= 0 {
			return hold, err
		}
		if timer == nil {
			timer = time.NewTimer(limit)
			defer timer.Stop()
			c.waiting.Add(1)
			defer c.waiting.Add(-1)
		}
		select {
		case <-changed:
		case <-timer.C:
			c.late.Add(1)
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ClaimAt asks for a connection of the user at a backend, which is where the caller has the user, and doesn't wait. Where the user is
// elsewhere, or the proxies have yet to agree, there is no Hold: the caller asks anew where the user is, by Claim. elsewhere is where the user is,
// "" where that isn't known.
func (c *Cluster) ClaimAt(user, backend string) (hold *Hold, elsewhere string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	answer := c.member.ClaimAt(user, backend, now)
	if answer.Verdict == agree.Go && answer.Backend != backend {
		c.member.Release(user, now)
		hold, elsewhere = nil, answer.Backend
	} else if hold, err = c.given(answer, user); errors.Is(err, ErrWait) {
		err = nil
	}
	c.after()
	return hold, elsewhere, err
}

// given is the caller's part of an answer. It is called under the lock.
func (c *Cluster) given(a agree.Answer, user string) (*Hold, error) {
	switch a.Verdict {
	case agree.Go:
		return &Hold{Backend: a.Backend, Epoch: c.member.Fleet().Epoch, cluster: c, user: user}, nil
	case agree.Refuse:
		return nil, fmt.Errorf("%w: %s", ErrRefused, a.Why)
	}
	return nil, fmt.Errorf("%w: %s", ErrWait, a.Why)
}

// Release says that the connection's end was seen: the answer to LOGOUT or the end of its stream was read, or it was never made. A second
// call does nothing, and so does one of a nil Hold, which is what a proxy alone has.
func (h *Hold) Release() {
	if h == nil || h.released.Swap(true) {
		return
	}
	h.cluster.with(func(m *agree.Member, now time.Time) {
		if h.ending.Load() {
			m.Ended(h.user, now)
		} else {
			m.Release(h.user, now)
		}
	})
}

// Ending says that the connection was closed: its end isn't seen yet, and Release comes later. A further connection is no longer had beside
// it while the user is being moved.
func (h *Hold) Ending() {
	if h == nil || h.released.Load() || h.ending.Swap(true) {
		return
	}
	h.cluster.with(func(m *agree.Member, now time.Time) { m.Ending(h.user, now) })
}

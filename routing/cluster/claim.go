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
	// ErrWait means that the proxies didn't agree on the user within the time given.
	ErrWait = errors.New("the proxies haven't agreed on the user in time")
	// ErrRefused means that the user can't be served now, and that waiting wouldn't help.
	ErrRefused = errors.New("the user can't be served now")
)

// Hold is the right of a connection to a backend to exist. It is claimed before the dial, and released once
// the connection's end has been seen.
type Hold struct {
	// Backend is where the connection may go.
	Backend string
	// Epoch is the epoch of the fleet that this proxy went by at the claim. The backend is in that fleet.
	Epoch uint64

	cluster  *Cluster
	user     string
	ending   atomic.Bool
	released atomic.Bool
}

// Claim asks where a connection of the user may be made. It waits, up to limit, if the proxies haven't
// agreed yet. home is the user's placement, "" if there is none. For a user who is where the function says,
// Claim neither waits nor asks Consul.
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

// ClaimAt asks for a connection of the user at a backend, where the caller has the user. It doesn't wait. If
// the user is elsewhere, or the proxies haven't agreed yet, hold is nil, and the caller uses Claim to ask
// where the user is. elsewhere is where the user is, "" if that isn't known. watch says that the connection is for
// a watch, which a session may need before it can leave.
func (c *Cluster) ClaimAt(user, backend string, watch bool) (hold *Hold, elsewhere string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	answer := c.member.ClaimAt(user, backend, watch, now)
	if answer.Verdict == agree.Go && answer.Backend != backend {
		c.member.Release(user, now)
		hold, elsewhere = nil, answer.Backend
	} else if hold, err = c.given(answer, user); errors.Is(err, ErrWait) {
		err = nil
	}
	c.after()
	return hold, elsewhere, err
}

// given returns an answer as Claim returns it. It is called under the lock.
func (c *Cluster) given(a agree.Answer, user string) (*Hold, error) {
	switch a.Verdict {
	case agree.Go:
		return &Hold{Backend: a.Backend, Epoch: c.member.Fleet().Epoch, cluster: c, user: user}, nil
	case agree.Refuse:
		return nil, fmt.Errorf("%w: %s", ErrRefused, a.Why)
	}
	return nil, fmt.Errorf("%w: %s", ErrWait, a.Why)
}

// Release records that the connection's end was seen (the answer to LOGOUT or the end of its stream was
// read), or that it was never made. A second call does nothing. A nil Hold, which a proxy without the block
// `cluster` has, may be released as well.
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

// Ending records that the connection was closed and that its end hasn't been seen; Release comes later.
// While the user is being moved, such a connection doesn't allow a further one beside it.
func (h *Hold) Ending() {
	if h == nil || h.released.Load() || h.ending.Swap(true) {
		return
	}
	h.cluster.with(func(m *agree.Member, now time.Time) { m.Ending(h.user, now) })
}

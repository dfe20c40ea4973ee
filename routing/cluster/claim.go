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

	cluster  *Cluster
	user     string
	released atomic.Bool
}

// Claim asks where a connection of the user may be made, and waits, up to limit, where the proxies have yet to agree. home is the
// user's placement, "" where there is none. For a user who is where the function says it neither waits nor asks Consul.
func (c *Cluster) Claim(ctx context.Context, limit time.Duration, user, home string) (*Hold, error) {
	var timer *time.Timer
	for {
		c.mu.Lock()
		answer := c.member.Claim(user, home, time.Now())
		changed := c.after()
		c.mu.Unlock()
		switch answer.Verdict {
		case agree.Go:
			return &Hold{Backend: answer.Backend, cluster: c, user: user}, nil
		case agree.Refuse:
			return nil, fmt.Errorf("%w: %s", ErrRefused, answer.Why)
		}
		if timer == nil {
			timer = time.NewTimer(limit)
			defer timer.Stop()
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, fmt.Errorf("%w: %s", ErrWait, answer.Why)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Release says that the connection's end was seen: the answer to LOGOUT or the end of its stream was read, or it was never made. A second
// call does nothing, and so does one of a nil Hold, which is what a proxy alone has.
func (h *Hold) Release() {
	if h == nil || h.released.Swap(true) {
		return
	}
	h.cluster.with(func(m *agree.Member, now time.Time) { m.Release(h.user, now) })
}

package discovery

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff doubles the wait with each failure, between its bounds. It has jitter, since all proxies may lose
// the same agent at the same moment.
type backoff struct {
	min, max time.Duration
	next     time.Duration
}

// wait waits; it returns false when ctx ended.
func (b *backoff) wait(ctx context.Context) bool {
	d := max(b.next, b.min)
	b.next = min(2*d, b.max)
	return sleep(ctx, jitter(d))
}

func (b *backoff) reset() { b.next = 0 }

// jitter returns a duration between a half and the whole of d.
func jitter(d time.Duration) time.Duration {
	if d <= 1 {
		return d
	}
	return d/2 + rand.N(d/2)
}

// sleep waits for d; it returns false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

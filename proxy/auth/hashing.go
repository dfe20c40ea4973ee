package auth

import (
	"context"
	"runtime"
)

// Hashing bounds how many passwords are hashed at once, so that a storm of
// logins queues instead of taking every processor, and every megabyte that
// argon2 wants, away from the sessions that are there already. Sources share one.
type Hashing struct {
	slots chan struct{} // who is in it hashes; sends block until one of them is through
}

// NewHashing returns a bound of n hashes at once; n ≤ 0 means GOMAXPROCS.
func NewHashing(n int) *Hashing {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	return &Hashing{slots: make(chan struct{}, n)}
}

// do runs f when there is room, or returns the reason why ctx ended before. A
// hash that has begun is finished, whatever becomes of ctx.
func (h *Hashing) do(ctx context.Context, f func() bool) (bool, error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
		return f(), nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

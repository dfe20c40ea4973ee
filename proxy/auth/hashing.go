package auth

import (
	"context"
	"net/netip"
	"runtime"

	"imapproxy/internal/fair"
)

// Hashing bounds how many passwords are hashed at once, so that a storm of
// logins queues instead of taking every processor, and every megabyte that
// argon2 wants, away from the sessions that are there already. Networks that wait are
// served in turn: one that guesses passwords delays the others by one hash each time, and
// as many as there may be delay those from which somebody has logged in lately by one hash.
// Sources share one.
type Hashing struct {
	queue *fair.Queue[netip.Prefix]
}

// NewHashing returns a bound of n hashes at once; n ≤ 0 means GOMAXPROCS.
func NewHashing(n int) *Hashing {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	return &Hashing{queue: fair.NewQueue[netip.Prefix](fair.Options{Slots: n})}
}

// do runs f when it is the turn of the client's network, or returns the reason why ctx
// ended before. A hash that has begun is finished, whatever becomes of ctx.
// known says that somebody has logged in from there lately.
func (h *Hashing) do(ctx context.Context, client netip.Addr, known bool, f func() bool) (bool, error) {
	network := fair.Network(client)
	if err := h.queue.AcquireAs(ctx, network, known); err != nil {
		return false, err
	}
	defer h.queue.Release(network)
	return f(), nil
}

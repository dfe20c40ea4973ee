package auth

import (
	"context"
	"net/netip"
	"runtime"

	"imapproxy/internal/fair"
	"imapproxy/telemetry"
)

// Hashing bounds the number of passwords that are hashed at once, so that a burst of
// logins waits instead of taking all processors, and the memory that
// argon2 needs, from existing sessions. Waiting networks take
// turns: a network that guesses passwords delays the others by one hash each time, and
// any number of such networks delay the networks from which a user has logged in lately by one hash.
// Sources share one Hashing.
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

// do runs f when it is the turn of the client's network, or returns the cause of ctx's end if that comes
// before. A hash that has begun is completed, even if ctx ends. known: a user has logged in from that network
// lately.
func (h *Hashing) do(ctx context.Context, client netip.Addr, known bool, trace *telemetry.LoginTrace, f func() bool) (bool, error) {
	network := fair.Network(client)
	end := trace.Phase(telemetry.PhaseHashTurn)
	err := h.queue.AcquireAs(ctx, network, known)
	end(err)
	if err != nil {
		return false, err
	}
	defer h.queue.Release(network)
	defer trace.Phase(telemetry.PhaseHash)(nil)
	return f(), nil
}

package auth

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"imapproxy/internal/fair"
)

// Defaults of AskingOptions.
const (
	DefaultAsking        = 32
	DefaultAskingTimeout = 5 * time.Second
)

// AskingOptions bound what a source is asked. Zero means the default.
type AskingOptions struct {
	AtOnce  int           // questions at a time
	Timeout time.Duration // for one question, its wait for a turn included
}

// Asking bounds the questions to a source on another machine, which may be slow, or hang. Half of the
// places are for client networks from which a user has logged in lately, half for all others; within
// each half networks take turns, and one has at most half of it. So clients that guess passwords, whose
// questions such a source may answer after seconds, take no place from users who know theirs.
type Asking struct {
	timeout       time.Duration
	known, others *fair.Queue[netip.Prefix]
}

// NewAsking returns such bounds.
func NewAsking(o AskingOptions) *Asking {
	if o.AtOnce <= 0 {
		o.AtOnce = DefaultAsking
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultAskingTimeout
	}
	half := max(o.AtOnce/2, 1)
	places := fair.Options{Slots: half, PerKey: max(half/2, 1)}
	return &Asking{timeout: o.Timeout, known: fair.NewQueue[netip.Prefix](places), others: fair.NewQueue[netip.Prefix](places)}
}

// Timeout is how long one question may take.
func (a *Asking) Timeout() time.Duration { return a.timeout }

// Ask has ask give the verdict about c when it is the turn of the client's network. It returns within
// the timeout if ask heeds its context.
func (a *Asking) Ask(ctx context.Context, c Credentials, ask func(context.Context) Verdict) Verdict {
	ctx, cancel := context.WithTimeoutCause(ctx, a.timeout, errNoAnswer)
	defer cancel()
	queue, network := a.others, fair.Network(c.Client)
	if c.Known {
		queue = a.known
	}
	if err := queue.Acquire(ctx, network); err != nil {
		return Unavailable{fmt.Errorf("waiting for a turn to ask: %w", err)}
	}
	defer queue.Release(network)
	v := ask(ctx)
	if u, ok := v.(Unavailable); ok && context.Cause(ctx) == errNoAnswer {
		// The library's words about a context that is over say less.
		u.Err = fmt.Errorf("no answer in %v: %w", a.timeout, context.DeadlineExceeded)
		return u
	}
	return v
}

// errNoAnswer means that the time for a question is over.
var errNoAnswer = fmt.Errorf("its time is over: %w", context.DeadlineExceeded)

package session

import (
	"context"
	"errors"
	"time"

	"imapproxy/proxy/park/resync"
)

// longestPatience is how many times ParkOptions.ResumeWithin a session may wait for its turn and try, in all.
const longestPatience = 8

// patience bounds how long a session tries to get a backend connection: for within. While other sessions reach the backend, what it waits for
// its turn doesn't count, and neither does an attempt that takes too long: where many sessions have lost their connections, the backend is
// there and does what it can. Nor does an attempt that finds that the mailbox was changed meanwhile. The session's owner owns it.
type patience struct {
	began  time.Time
	end    time.Time // no attempt begins later
	last   time.Time // end doesn't become later than this
	within time.Duration
	later  func(time.Duration, func()) *time.Timer // calls a function in a goroutine of the session's
}

func newPatience(within time.Duration, later func(time.Duration, func()) *time.Timer) *patience {
	now := time.Now()
	return &patience{began: now, end: now.Add(within), last: now.Add(longestPatience * within), within: within, later: later}
}

// strictly sets that nothing is tried after d, whatever others reach.
func (p *patience) strictly(d time.Duration) {
	p.end = time.Now().Add(d)
	p.last = p.end
}

// paused doesn't count d.
func (p *patience) paused(d time.Duration) { p.end, p.last = p.end.Add(d), p.last.Add(d) }

// over says whether no further attempt may begin.
func (p *patience) over() bool { return !time.Now().Before(p.end) }

// longest is how long an attempt may take, with its turn.
func (p *patience) longest() time.Duration { return time.Until(p.last) }

// left returns a context that ends at end.
func (p *patience) left(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, p.end)
}

// turn waits for a turn at a backend. wait's context ends at end, or, while others reach the backend, later.
func (p *patience) turn(ctx context.Context, r *resumes, wait func(context.Context) error) error {
	began := time.Now()
	if p.over() {
		return context.DeadlineExceeded
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	last, within := p.last, p.within
	var late *time.Timer
	late = p.later(longestPatience*within, func() {
		if ctx.Err() != nil { // the turn has come
			return
		}
		until := r.reachedAt().Add(within)
		if until.After(last) {
			until = last
		}
		if left := time.Until(until); left > 0 {
			late.Reset(left)
			return
		}
		cancel(context.DeadlineExceeded)
	})
	late.Reset(time.Until(p.end))
	err := wait(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // rate.Limiter tells of the end of ctx alone
	}
	cancel(nil) // a call of late's function that has begun does nothing more
	late.Stop()
	p.excuse(r, began)
	return err
}

// try returns the context of one attempt in a session's turn, which takes at most d. done reports its end. An attempt that takes too long doesn't
// count while others reach the backend. If others came back meanwhile, it is no sign that too many run at a time: a mailbox may hang.
func (p *patience) try(ctx context.Context, r *resumes, d time.Duration) (_ context.Context, done func(err error)) {
	began, others := time.Now(), *r.reached.Load()
	within := d
	if !p.helped(r) {
		within = min(d, time.Until(p.end))
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	return ctx, func(err error) {
		cancel()
		switch {
		case err == nil:
			r.reaches()
		case errors.Is(err, resync.ErrUnsettled): // the backend has answered, and others change the mailbox all the time
			r.answers()
			p.excuse(r, began)
		case time.Since(began) >= d:
			select {
			case <-others:
			default:
				r.tooSlow(began)
			}
			p.excuse(r, began)
		}
	}
}

// excuse doesn't count the time since since, if others reach the backend.
func (p *patience) excuse(r *resumes, since time.Time) {
	if !p.helped(r) {
		return
	}
	if p.end = p.end.Add(time.Since(since)); p.end.After(p.last) {
		p.end = p.last
	}
}

// helped says whether the backend is there: it has answered a session that was coming back, lately and since the attempts began.
func (p *patience) helped(r *resumes) bool {
	at := r.reachedAt()
	return at.After(p.began) && at.Add(p.within).After(time.Now())
}

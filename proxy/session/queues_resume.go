package session

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"imapproxy/internal/clock"
	"imapproxy/internal/fair"
	"imapproxy/proxy/upstream"
)

// resumes bounds the requests to one backend when many sessions wake at the same time.
type resumes struct {
	// turns has the users whose sessions use the backend now or wait for it; users take turns. A session
	// doesn't write to its client while it holds a slot.
	turns *fair.Queue[string]
	// looks has the sessions that look for their views after a loss: of each user one at a time, and beside it one of those
	// whose clients wait. A look may log in; the next one of the user then uses the same connection.
	looks *fair.Queue[look]
	rate  *rate.Limiter // how many resumes begin per second
	again oncePerMinute // bounds the log lines of further attempts
	// reached is closed and replaced when a session reaches the backend; last is when it last answered one (internal/clock).
	reached atomic.Pointer[chan struct{}]
	last    atomic.Int64

	mu          sync.Mutex // guards what follows, and the options of turns
	most, slots int        // the resumes that may run at a time by the settings, and at the backend's present speed
	since       int        // how many have reached the backend since slots was last changed, if it is less than most
	slowed      time.Time  // when slots was last halved
}

// leastResumes is how many resumes run at a time at a backend that is too slow for more.
const leastResumes = 4

// look is a key of resumes.looks.
type look struct {
	user   string
	urgent bool // the client waits
}

func newResumes(o ParkOptions) *resumes {
	r := &resumes{turns: fair.NewQueue[string](fair.Options{}), looks: fair.NewQueue[look](fair.Options{Slots: math.MaxInt, PerKey: 1}), rate: rate.NewLimiter(rate.Inf, 0)}
	r.reached.Store(newEvent())
	r.set(o)
	return r
}

func newEvent() *chan struct{} {
	c := make(chan struct{})
	return &c
}

// reaches tells the sessions that wait for another attempt that the backend is there.
func (r *resumes) reaches() {
	r.last.Store(clock.Of(time.Now()))
	close(*r.reached.Swap(newEvent()))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slots == r.most {
		return
	}
	if r.since++; r.since >= r.slots {
		r.slots, r.since = r.slots+1, 0
		r.sizeLocked()
	}
}

// answers records that the backend has answered a login: it is there, though what follows may take long.
func (r *resumes) answers() { r.last.Store(clock.Of(time.Now())) }

// reachedAt returns when the backend last answered a session that was coming back.
func (r *resumes) reachedAt() time.Time { return clock.At(r.last.Load()) }

// tooSlow halves the number of resumes that run at a time, after an attempt that has taken too long: if each gets a part of what the backend
// can do, it may be that none ends in time. Attempts that began before the last time say nothing about the new number.
func (r *resumes) tooSlow(began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !began.After(r.slowed) {
		return
	}
	r.slowed = time.Now()
	r.slots, r.since = min(max(r.slots/2, leastResumes), r.most), 0
	r.sizeLocked()
}

// sizeLocked applies slots.
func (r *resumes) sizeLocked() {
	r.turns.SetOptions(fair.Options{Slots: r.slots, PerKey: max(r.slots/resumeShare, 1), KnownFirst: true})
}

// pause waits between two attempts to reach the backend: for recoverPause, and then until d is over or a session
// has reached the backend after reached was taken. nil: for d.
func (r *resumes) pause(ctx context.Context, d time.Duration, reached <-chan struct{}) {
	select {
	case <-time.After(recoverPause):
	case <-ctx.Done():
		return
	}
	select {
	case <-time.After(d - recoverPause):
	case <-reached:
	case <-ctx.Done():
	}
}

// since returns reached, or nil if err is the backend's answer: it was there already.
func since(err error, reached <-chan struct{}) <-chan struct{} {
	if upstream.Answered(err) {
		return nil
	}
	return reached
}

// Pauses between attempts to reach the backend again after a loss. A backend restarts in less than a second.
const (
	recoverPause    = 100 * time.Millisecond
	maxRecoverPause = 2 * time.Second
	recoverShare    = 20 * time.Millisecond // of the longest pause, for each session that recovers
)

// longestPause is the longest pause between two attempts of a session while so many recover or resume: their
// attempts together stay below a bound.
func longestPause(sessions int64) time.Duration {
	return min(max(recoverPause, time.Duration(sessions)*recoverShare), maxRecoverPause)
}

// set applies new settings.
func (r *resumes) set(o ParkOptions) {
	n := o.ResumesAtATime()
	r.mu.Lock()
	r.most, r.slots, r.since = n, n, 0
	r.sizeLocked()
	r.mu.Unlock()
	limit := rate.Inf
	if o.ResumeRate > 0 {
		limit = rate.Limit(o.ResumeRate)
	}
	r.rate.SetBurst(n)
	r.rate.SetLimit(limit)
}

// enter waits for the user's turn, and for the rate. Sessions whose clients wait for an answer (urgent) go before others, which get one turn
// of four. Each call of enter without an error needs one of leave.
func (r *resumes) enter(ctx context.Context, user string, urgent bool) error {
	if err := r.turns.AcquireAs(ctx, user, urgent); err != nil {
		return err
	}
	if err := r.rate.Wait(ctx); err != nil {
		r.turns.Release(user)
		return err
	}
	return nil
}

// leave gives the turn back.
func (r *resumes) leave(user string) { r.turns.Release(user) }

// enterLook is enter for a session that looks for its view. Each call without an error needs one of leaveLook.
func (r *resumes) enterLook(ctx context.Context, l look) error {
	if err := r.looks.Acquire(ctx, l); err != nil {
		return err
	}
	if err := r.enter(ctx, l.user, l.urgent); err != nil {
		r.looks.Release(l)
		return err
	}
	return nil
}

func (r *resumes) leaveLook(l look) {
	r.leave(l.user)
	r.looks.Release(l)
}

// resumeShare is the divisor: one user's sessions may have this fraction of a backend's concurrent resumes.
const resumeShare = 4

// oncePerMinute limits a log line to one per minute. The zero value is usable.
type oncePerMinute struct {
	last   atomic.Int64 // when a line was last written (internal/clock); 0: never
	others atomic.Int64 // how many lines were suppressed since then
}

// may says whether a line may be written now, and how many were suppressed since the last one.
func (o *oncePerMinute) may(now time.Time) (others int64, ok bool) {
	last := o.last.Load()
	if last != 0 && clock.Of(now)-last < int64(time.Minute) || !o.last.CompareAndSwap(last, clock.Of(now)) {
		o.others.Add(1)
		return 0, false
	}
	return o.others.Swap(0), true
}

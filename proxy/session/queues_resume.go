package session

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"imapproxy/internal/fair"
)

// resumes bounds what one backend is asked for when many wake at once.
type resumes struct {
	// turns has who asks the backend now, and who waits for that: users in turn. No
	// client is written to by who holds a slot.
	turns *fair.Queue[string]
	rate  *rate.Limiter // how many begin in a second
	again oncePerMinute // the log of what is tried again
}

func newResumes(o ParkOptions) *resumes {
	r := &resumes{turns: fair.NewQueue[string](fair.Options{}), rate: rate.NewLimiter(rate.Inf, 0)}
	r.set(o)
	return r
}

// set takes over the settings.
func (r *resumes) set(o ParkOptions) {
	n := o.ResumesAtATime()
	r.turns.SetOptions(fair.Options{Slots: n, PerKey: max(n/resumeShare, 1)})
	limit := rate.Inf
	if o.ResumeRate > 0 {
		limit = rate.Limit(o.ResumeRate)
	}
	r.rate.SetBurst(n)
	r.rate.SetLimit(limit)
}

// resumeShare is the part of a backend's resumes that one user's sessions have at a time.
const resumeShare = 4

// oncePerMinute bounds a line of the log. The zero value is usable.
type oncePerMinute struct {
	last   atomic.Int64 // when one was written, Unix ns; 0: never
	others atomic.Int64 // since then
}

// may says whether a line may be written now, and how many weren't since the last.
func (o *oncePerMinute) may(now time.Time) (others int64, ok bool) {
	last := o.last.Load()
	if last != 0 && now.UnixNano()-last < int64(time.Minute) || !o.last.CompareAndSwap(last, now.UnixNano()) {
		o.others.Add(1)
		return 0, false
	}
	return o.others.Swap(0), true
}

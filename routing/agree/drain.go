package agree

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"imapproxy/routing"
)

// A drain is an operator's request that a backend's users be moved away, and that no users be sent there. It
// is part of the fleet, so that it holds for all proxies and outlives each of them. It makes a backend that
// discovery calls up one that drains; it doesn't change a backend that is down. The moves of its users have
// a schedule of their own, which no later fleet changes.

// Drain is a backend that an operator drains.
type Drain struct {
	Backend string `json:"backend"`
	Since   int64  `json:"since"`        // milliseconds since 1970, by the clock of the proxy that was asked
	By      string `json:"by,omitempty"` // the operator, for people to read
	// Deadline is when sessions that couldn't be moved are ended, in milliseconds since 1970: those of
	// bucket n at n/buckets × drainSpread after it. 0: no session is ended.
	Deadline int64 `json:"deadline,omitempty"`
	// Rate is how many users a second all proxies together move. 0: the policy's MoveRate, or more if the
	// users couldn't be moved at that rate in half of the time until Deadline.
	Rate float64 `json:"rate,omitempty"`
	// Begin and Cycle are the schedule, as in Move. Begin is 0 until the backend's state is no longer up.
	Begin int64 `json:"begin,omitempty"`
	Cycle int64 `json:"cycle,omitempty"`
}

const (
	drainSpread = 30 * time.Second // the time after a deadline in which all sessions that are left are ended
	maxDrains   = 256              // that operators may ask for; a fleet may have more
	maxBy       = 100              // bytes of Drain.By
	maxWithin   = 30 * 24 * time.Hour

	drainedReason = "drained by an operator"
)

// Errors of Drain and Undrain.
var (
	ErrNoOther       = errors.New("no other backend is up: its users could go nowhere")
	ErrNotDrained    = errors.New("no operator drains the backend")
	ErrTooManyDrains = errors.New("too many backends are drained")
	// ErrSeparate means that with separate storage only the placement says where a user can be.
	ErrSeparate = errors.New("with separate storage no other backend has the users' mail")
)

// DrainRequest is an operator's request for a drain.
type DrainRequest struct {
	Backend string
	By      string
	Within  time.Duration // 0: sessions that can't be moved stay
	Rate    float64       // users a second; 0: the policy's MoveRate
}

// drainWish is a drain that this proxy was asked to begin or end, and that isn't yet in the fleet.
type drainWish struct {
	drain *Drain // nil: the drain is to end
	asked
}

// draining is what this proxy knows of a drain in the fleet that it goes by.
type draining struct {
	since int64
	from  time.Time // when this proxy first went by it, by this proxy's clock
	users int       // of this proxy at the backend at that time
	ended map[string]bool
}

// checkDrain returns why a drain isn't possible, nil if it is.
func (m *Member) checkDrain(r DrainRequest) error {
	switch {
	case m.phase != inside || m.isolated:
		return ErrNotInside
	case m.separate():
		return ErrSeparate
	case m.fleet.backend(r.Backend) == nil:
		return fmt.Errorf("%w: %s", ErrUnknownBackend, clip(r.Backend))
	case r.Within < 0 || r.Within > maxWithin:
		return fmt.Errorf("sessions can't be ended after %v; at most %v", r.Within, maxWithin)
	case !(r.Rate >= 0 && r.Rate <= 1e6): // written so that NaN fails
		return fmt.Errorf("%v users a second can't be moved", r.Rate)
	case m.fleet.drain(r.Backend) == nil && len(m.fleet.Drains) >= maxDrains || len(m.writer.drains) >= maxDrains:
		return ErrTooManyDrains
	}
	for _, b := range m.fleet.Backends {
		if b.ID != r.Backend && b.State == routing.Up && b.Weight > 0 && !m.drainAsked(b.ID) {
			return nil
		}
	}
	return ErrNoOther
}

// Drain asks that a backend be drained. It replaces a drain that the backend has already. The request is
// done when Drained returns the number that Drain has returned; that takes a minute at most, or the request
// is given up.
func (m *Member) Drain(r DrainRequest, now time.Time) (since int64, err error) {
	m.at(now)
	if err := m.checkDrain(r); err != nil {
		return 0, err
	}
	d := &Drain{Backend: r.Backend, Since: m.now.UnixMilli(), By: clean(r.By), Rate: r.Rate}
	if old := m.fleet.drain(r.Backend); old != nil {
		d.Since = max(d.Since, old.Since+1)
	}
	if r.Within > 0 {
		d.Deadline = m.now.Add(r.Within).UnixMilli()
	}
	m.writer.drains[r.Backend] = &drainWish{d, asked{until: m.now.Add(requestFor)}}
	m.pump()
	return d.Since, nil
}

// Undrain asks that a backend's drain end. The request is done when Drained returns 0 for the backend.
func (m *Member) Undrain(backend string, now time.Time) error {
	m.at(now)
	if err := m.checkUndrain(backend); err != nil {
		return err
	}
	m.writer.drains[backend] = &drainWish{nil, asked{until: m.now.Add(requestFor)}}
	m.pump()
	return nil
}

// checkUndrain returns why a drain can't be ended, nil if it can.
func (m *Member) checkUndrain(backend string) error {
	switch {
	case m.phase != inside || m.isolated:
		return ErrNotInside
	case m.fleet.drain(backend) == nil && m.fleet.backend(backend) == nil:
		return fmt.Errorf("%w: %s", ErrUnknownBackend, clip(backend))
	case m.fleet.drain(backend) == nil && !m.drainAsked(backend):
		return ErrNotDrained
	}
	return nil
}

// PreviewEnd returns where the users of this proxy are who would go to the backend if its drain ended: backend
// → number of users. It is empty if the backend wouldn't be up.
func (m *Member) PreviewEnd(backend string, now time.Time) (map[string]int, error) {
	m.at(now)
	if err := m.checkUndrain(backend); err != nil {
		return nil, err
	}
	from := make(map[string]int)
	b := m.fleet.backend(backend)
	if b == nil || !b.Drained {
		return from, nil
	}
	up := append(slices.Clone(m.fleet.newest().Up), Share{backend, b.Weight})
	slices.SortFunc(up, func(a, b Share) int { return strings.Compare(a.ID, b.ID) })
	choice, at := choices(up, m.o.Buckets, &m.places), m.places.of(backend)
	for user, h := range m.holds {
		goes := choice[h.bucket] == at
		if over := m.override(user); over == backend {
			goes = true
		} else if over != "" && m.fleet.newest().up(over) {
			goes = false
		}
		if goes && h.at != at {
			from[m.places.ids[h.at]]++
		}
	}
	return from, nil
}

// drainAsked reports whether this proxy was asked to drain the backend, and doesn't know yet that the fleet
// has the drain.
func (m *Member) drainAsked(backend string) bool {
	wish := m.writer.drains[backend]
	return wish != nil && wish.drain != nil
}

// Drained returns Since of the backend's drain in the fleet that this proxy goes by; 0: it has no drain.
func (m *Member) Drained(backend string) int64 {
	if m.fleet == nil {
		return 0
	}
	if d := m.fleet.drain(backend); d != nil {
		return d.Since
	}
	return 0
}

// drain returns the drain of a backend; nil if it has none.
func (f *Fleet) drain(backend string) *Drain {
	i, ok := slices.BinarySearchFunc(f.Drains, backend, func(d Drain, id string) int { return strings.Compare(d.Backend, id) })
	if !ok {
		return nil
	}
	return &f.Drains[i]
}

// nextDrains returns the drains of the next fleet: those of prev, with the requests to this proxy applied.
func (m *Member) nextDrains(prev *Fleet) []Drain {
	if len(m.writer.drains) == 0 {
		return prev.Drains
	}
	next := make(map[string]Drain, len(prev.Drains))
	for _, d := range prev.Drains {
		next[d.Backend] = d
	}
	for backend, wish := range m.writer.drains {
		if wish.drain == nil {
			delete(next, backend)
		} else {
			next[backend] = *wish.drain
		}
	}
	return sortedDrains(next)
}

func sortedDrains(all map[string]Drain) []Drain {
	return slices.SortedFunc(maps.Values(all), func(a, b Drain) int { return strings.Compare(a.Backend, b.Backend) })
}

// forgetWishes removes the requests that the fleet has, and those that couldn't be written in time.
func (m *Member) forgetWishes() {
	for backend, wish := range m.writer.drains {
		since, want := m.Drained(backend), int64(0)
		if wish.drain != nil {
			want = wish.drain.Since
		}
		if since == want || wish.done(m) {
			delete(m.writer.drains, backend)
			m.version++
		}
	}
}

// schedule gives each drain whose backend is no longer up its schedule, once: at the drain's rate, by the
// number of users that this proxy has there. backends are the next fleet's. It returns drains itself if
// nothing changes.
func (m *Member) schedule(drains []Drain, backends []Backend) []Drain {
	f := Fleet{Backends: backends}
	next := drains
	for i := range drains {
		b := f.backend(drains[i].Backend)
		if drains[i].Begin != 0 || b == nil || b.State == routing.Up {
			continue
		}
		if &next[0] == &drains[0] {
			next = slices.Clone(drains)
		}
		d := &next[i]
		rate := d.Rate
		if rate == 0 {
			rate = m.o.Policy.MoveRate
		}
		users := m.usersOn(d.Backend) * len(m.view.Proxies)
		cycle := float64(maxCycle)
		if rate > 0 {
			cycle = math.Min(float64(users)/rate*1000, maxCycle)
		}
		if left := d.Deadline - m.now.UnixMilli(); d.Deadline > 0 && d.Rate == 0 {
			cycle = math.Min(cycle, math.Max(0, float64(left/2)))
		}
		d.Begin, d.Cycle = m.now.UnixMilli(), int64(cycle)
	}
	return next
}

// seeDrains records, at a switch, how many users this proxy has at each drained backend.
func (m *Member) seeDrains() {
	for id := range m.drains {
		if m.fleet.drain(id) == nil {
			delete(m.drains, id)
		}
	}
	for i := range m.fleet.Drains {
		d := &m.fleet.Drains[i]
		if known := m.drains[d.Backend]; known == nil || known.since != d.Since {
			m.drains[d.Backend] = &draining{since: d.Since, from: m.now, users: m.usersOn(d.Backend), ended: make(map[string]bool)}
		}
	}
}

// usersOn returns how many users this proxy has at a backend.
func (m *Member) usersOn(backend string) int {
	if at := m.places.of(backend); int(at) < len(m.usersAt) {
		return m.usersAt[at]
	}
	return 0
}

// over reports whether the time of a bucket's sessions at a drained backend is over.
func (d *Drain) over(bucket, buckets int, now time.Time) bool {
	return d.Deadline > 0 && now.UnixMilli() >= d.Deadline+drainSpread.Milliseconds()*int64(bucket)/int64(buckets)
}

// Preview returns where the users whom this proxy has at a backend would go if it were drained: backend →
// number of users. "" is for users who would stay, since no other backend is up for them.
func (m *Member) Preview(backend string, now time.Time) (map[string]int, error) {
	m.at(now)
	if err := m.checkDrain(DrainRequest{Backend: backend}); err != nil {
		return nil, err
	}
	to := make(map[string]int)
	up := slices.DeleteFunc(slices.Clone(m.fleet.newest().Up), func(s Share) bool { return s.ID == backend })
	choice := choices(up, m.o.Buckets, &m.places)
	at := m.places.of(backend)
	for user, h := range m.holds {
		if h.at != at {
			continue
		}
		target := m.places.ids[choice[h.bucket]]
		if over := m.override(user); over != "" && slices.ContainsFunc(up, func(s Share) bool { return s.ID == over }) {
			target = over
		}
		to[target]++
	}
	return to, nil
}

// clean returns text in a form that a record can carry.
func clean(text string) string {
	text = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text), "?")
	if len(text) > maxBy {
		text = strings.ToValidUTF8(text[:maxBy], "")
	}
	return text
}

func (d *Drain) valid() error {
	switch {
	case validName(d.Backend) != nil:
		return validName(d.Backend)
	case d.Since <= 0 || d.Since > 1<<50 || d.Deadline < 0 || d.Deadline > 1<<50 || d.Begin < 0 || d.Begin > 1<<50 || d.Cycle < 0 || d.Cycle > 1<<40:
		return fmt.Errorf("its drain of %q has times out of range", clip(d.Backend))
	case !(d.Rate >= 0 && d.Rate <= 1e6) || len(d.By) > maxBy:
		return fmt.Errorf("its drain of %q can't be", clip(d.Backend))
	}
	return nil
}

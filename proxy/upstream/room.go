package upstream

import (
	"sync"
	"time"
)

// How a learnt bound rises again, and how long a backend counts as full.
const (
	roomRaiseEvery = 5 * time.Minute
	roomFullFor    = time.Minute
)

// RoomOptions are the settings of a Room. The zero value is usable.
type RoomOptions struct {
	// Connections is how many connections the proxy may hold to one backend before warm ones (the pool's) are
	// closed. Zero: no bound except those that are learnt from a backend's refusals.
	Connections int
	Now         func() time.Time // nil: time.Now
}

// Room counts the connections that the proxy holds to each backend (of sessions, watches, probes and the
// pool), and knows how many each backend accepts. If a login finds no capacity, connections in the pool are
// closed, those that have waited longest first. Room never refuses a login.
//
// The number that a backend accepts is learnt from its refusals: it is the number that the proxy held there
// when the backend refused another one. It rises by a tenth every five minutes without a refusal, since the
// refusal may have had other reasons, and is forgotten once it has doubled.
type Room struct {
	mu       sync.Mutex // guards what follows; no I/O under it
	opt      RoomOptions
	backends map[string]*occupied // only those with a connection, or a bound
	evict    func(backend string, n int) int
	evictAny func(n int) int
	crowded  func(connections int) bool // nil: never
}

// occupied is Room's data about one backend.
type occupied struct {
	held    int       // logged in, including warm ones
	coming  int       // being dialled or logging in
	learnt  int       // how many it accepts; 0: unknown
	refusal int       // the value of learnt after the last refusal
	since   time.Time // the last refusal, or the last rise since
	alive   time.Time // when a login last succeeded, or a refusal was received
	excuses int       // failures of probes that were excused by warm connections since the last success
}

// NewRoom returns a Room without learnt bounds.
func NewRoom(opt RoomOptions) *Room {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Room{opt: opt, backends: map[string]*occupied{}}
}

// Evicts sets how warm connections are closed: evict closes up to n of a backend's, those that have waited
// longest, and returns how many there were; evictAny those of any backends.
func (r *Room) Evicts(evict func(backend string, n int) int, evictAny func(n int) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.evict, r.evictAny = evict, evictAny
}

// Keeps reserves the process's last descriptors: crowded says whether this number of connections to backends,
// including the one about to be made, is too high for sessions and watches. Probes ignore it.
func (r *Room) Keeps(crowded func(connections int) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.crowded = crowded
}

// isCrowded is for a login that has entered.
func (r *Room) isCrowded() bool {
	r.mu.Lock()
	crowded, n := r.crowded, 0
	for _, o := range r.backends {
		n += o.held + o.coming
	}
	r.mu.Unlock()
	return crowded != nil && crowded(n)
}

// spare closes a warm connection, to this backend if there is one, since the proxy has no descriptor or port
// for another. It says whether there was one.
func (r *Room) spare(id string) bool {
	r.mu.Lock()
	evict, evictAny := r.evict, r.evictAny
	r.mu.Unlock()
	return evict != nil && (evict(id, 1) > 0 || evictAny(1) > 0)
}

// Reload sets a new bound; learnt ones stay.
func (r *Room) Reload(connections int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opt.Connections = connections
}

// of returns the backend's entry; it makes one if necessary.
func (r *Room) of(id string) *occupied {
	o := r.backends[id]
	if o == nil {
		o = &occupied{}
		r.backends[id] = o
	}
	return o
}

// tidy removes an empty entry, and raises the learnt number.
func (r *Room) tidy(id string, o *occupied) {
	now := r.opt.Now()
	for o.learnt > 0 && now.Sub(o.since) >= roomRaiseEvery {
		o.learnt += max(1, o.learnt/10)
		o.since = o.since.Add(roomRaiseEvery)
		if o.learnt >= 2*o.refusal {
			o.learnt, o.refusal = 0, 0
		}
	}
	if o.held == 0 && o.coming == 0 && o.learnt == 0 {
		delete(r.backends, id)
	}
}

// bound returns how many connections leave capacity for a probe and for others' sessions; 0: any number.
func (r *Room) bound(o *occupied) int {
	bound := 0
	if o.learnt > 0 {
		bound = max(1, o.learnt-1-o.learnt/16)
	}
	if c := r.opt.Connections; c > 0 && (bound == 0 || c < bound) {
		bound = c
	}
	return bound
}

// excess returns how many connections are too many.
func (r *Room) excess(o *occupied) int {
	if bound := r.bound(o); bound > 0 {
		return o.held + o.coming - bound
	}
	return 0
}

// enter records the begin of a login. left must be called once; ok says whether the login succeeded.
func (r *Room) enter(id string) (left func(ok bool)) {
	r.mu.Lock()
	o := r.of(id)
	o.coming++
	r.tidy(id, o)
	excess, evict := r.excess(o), r.evict
	r.mu.Unlock()
	if excess > 0 && evict != nil {
		evict(id, excess)
	}
	return func(ok bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		o := r.of(id)
		o.coming--
		if ok {
			o.held++
			o.alive = r.opt.Now()
			o.excuses = 0
		}
		r.tidy(id, o)
	}
}

// held returns how many connections are logged in, at all backends.
func (r *Room) held() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, o := range r.backends {
		n += o.held
	}
	return n
}

// leave records that a logged-in connection was closed.
func (r *Room) leave(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of(id)
	o.held--
	r.tidy(id, o)
}

// Trim closes warm connections to a backend beyond its bound.
func (r *Room) Trim(id string) {
	r.mu.Lock()
	o := r.of(id)
	r.tidy(id, o)
	excess, evict := r.excess(o), r.evict
	r.mu.Unlock()
	if excess > 0 && evict != nil {
		evict(id, excess)
	}
}

// Refused records that a backend doesn't accept another connection, or seems not to. Warm connections are
// closed, the more the more connections there are. again says whether there were any; otherwise the backend
// isn't full because of the proxy. certain: the backend refused because it is full, so the number is learnt;
// otherwise a user's data may have been refused.
func (r *Room) Refused(id string, certain bool) (again bool) {
	held := r.makeWay(id, 8)
	if certain {
		r.learn(id, held, true)
	}
	return held > 0
}

// makeWay closes warm connections: one in oneOf, and at least two. It returns how many connections there were
// before; 0: there were no warm ones.
func (r *Room) makeWay(id string, oneOf int) (held int) {
	r.mu.Lock()
	o, evict := r.of(id), r.evict
	held = o.held
	n := max(2, held/oneOf) // a place for the login, and the reserve of bound
	r.tidy(id, o)
	r.mu.Unlock()
	if evict == nil || held == 0 || evict(id, n) == 0 {
		return 0
	}
	return held
}

// learn records that a backend accepted this many connections and no more. heard: it said so; otherwise it
// was silent, which doesn't show that it is alive.
func (r *Room) learn(id string, held int, heard bool) {
	if held == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of(id)
	if o.learnt == 0 || held < o.learnt {
		o.learnt, o.refusal = held, held
	}
	o.since = r.opt.Now()
	if heard {
		o.alive = o.since
	}
}

// Full says whether the proxy holds all connections that a backend accepts, as learnt from its refusals. A
// backend that hasn't accepted a login for a minute doesn't count as full any longer: it may be dead.
func (r *Room) Full(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of(id)
	r.tidy(id, o)
	return o.learnt > 0 && o.held+o.coming >= r.bound(o) && r.opt.Now().Sub(o.alive) < roomFullFor
}

// RoomStatus is Room's data about a backend, for others.
type RoomStatus struct {
	Connections int // logged in, including warm ones
	Bound       int // above which no warm ones are kept; 0: none
	Learnt      int // how many the backend accepts, learnt from its refusals; 0: unknown
}

// Status returns a backend's status.
func (r *Room) Status(id string) RoomStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of(id)
	r.tidy(id, o)
	return RoomStatus{Connections: o.held, Bound: r.bound(o), Learnt: o.learnt}
}

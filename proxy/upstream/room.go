package upstream

import (
	"sync"
	"time"
)

// How a bound that was learnt comes back up, and for how long a backend counts as full.
const (
	roomRaiseEvery = 5 * time.Minute
	roomFullFor    = time.Minute
)

// RoomOptions are a Room's. The zero value is usable.
type RoomOptions struct {
	// Connections is how many connections the proxy may hold to one backend before
	// those that wait for a next use (the pool's) are closed. Zero: no bound but what a
	// backend's refusals teach.
	Connections int
	Now         func() time.Time // nil: time.Now
}

// Room counts the connections that the proxy holds to each backend, of sessions, watches,
// probes and those that wait in the pool, and knows how many each backend takes. Where
// there is no room for a login, connections that wait in the pool make way, those that
// have waited longest first. A login is never refused by it.
//
// How many a backend takes is learnt from its refusals: what the proxy held there when it
// refused another. It rises again by a tenth every five minutes without a refusal, as the
// refusal may have been for other reasons, and is forgotten once it has doubled.
type Room struct {
	mu       sync.Mutex // guards what follows; no I/O under it
	opt      RoomOptions
	backends map[string]*occupied // only those with a connection, or a bound
	evict    func(backend string, n int) int
	evictAny func(n int) int
	crowded  func(connections int) bool // nil: never
}

// occupied is what Room knows of one backend.
type occupied struct {
	held    int       // logged in, waiting ones included
	coming  int       // being dialled or logging in
	learnt  int       // what it takes; 0: not known
	refusal int       // what learnt was after the last refusal
	since   time.Time // the last refusal, or the last rise since
	alive   time.Time // when a login last succeeded, or a refusal was heard
	excuses int       // failures of probes that connections which wait have excused, since the last that succeeded
}

// NewRoom makes a Room with no bounds learnt.
func NewRoom(opt RoomOptions) *Room {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Room{opt: opt, backends: map[string]*occupied{}}
}

// Evicts says how connections that wait are closed: evict closes up to n of a backend's,
// those that have waited longest, and returns how many there were; evictAny those of any
// backends.
func (r *Room) Evicts(evict func(backend string, n int) int, evictAny func(n int) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.evict, r.evictAny = evict, evictAny
}

// Keeps has the process's last descriptors kept from sessions and watches: crowded says whether
// so many connections to backends, with the one that is about to be made, are too many.
// Probes are made all the same.
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

// spare closes a connection that waits, to this backend if there is one, since the proxy
// itself has no descriptor or port for another. It says whether there was one.
func (r *Room) spare(id string) bool {
	r.mu.Lock()
	evict, evictAny := r.evict, r.evictAny
	r.mu.Unlock()
	return evict != nil && (evict(id, 1) > 0 || evictAny(1) > 0)
}

// Reload takes a new bound; what was learnt stays.
func (r *Room) Reload(connections int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opt.Connections = connections
}

// of returns the backend's entry, making one.
func (r *Room) of(id string) *occupied {
	o := r.backends[id]
	if o == nil {
		o = &occupied{}
		r.backends[id] = o
	}
	return o
}

// tidy removes an entry that says nothing, and raises what was learnt.
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

// bound is how many connections leave room for a probe and others' sessions; 0: any number.
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

// excess is how many connections are too many.
func (r *Room) excess(o *occupied) int {
	if bound := r.bound(o); bound > 0 {
		return o.held + o.coming - bound
	}
	return 0
}

// enter is for a login that begins. left must be called once, with whether it succeeded.
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

// held is how many connections are logged in, at all backends.
func (r *Room) held() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, o := range r.backends {
		n += o.held
	}
	return n
}

// leave is for a connection that was logged in and is closed now.
func (r *Room) leave(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of(id)
	o.held--
	r.tidy(id, o)
}

// Trim closes waiting connections to a backend beyond its bound.
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

// Refused is for a backend that doesn't take another connection, or seems not to.
// Connections that wait make way, the more of them the more there are. It says whether
// there were any; else the backend isn't full by the proxy's doing. certain is whether
// the refusal is for want of room, which is learnt from; else it may be a user's bytes
// that were refused.
func (r *Room) Refused(id string, certain bool) (again bool) {
	held := r.makeWay(id, 8)
	if certain {
		r.learn(id, held, true)
	}
	return held > 0
}

// makeWay closes connections that wait: one of so many that there are, and at least two. It
// returns how many connections there were before; 0: none waited.
func (r *Room) makeWay(id string, oneOf int) (held int) {
	r.mu.Lock()
	o, evict := r.of(id), r.evict
	held = o.held
	n := max(2, held/oneOf) // the login's place, and the reserve of bound
	r.tidy(id, o)
	r.mu.Unlock()
	if evict == nil || held == 0 || evict(id, n) == 0 {
		return 0
	}
	return held
}

// learn notes that a backend took so many connections and no more. heard is whether it
// said so; else it was silent, which is no sign of its life.
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

// Full says whether the proxy holds all of the connections that a backend takes, as was
// learnt from its refusals. A backend that hasn't let a login in for a minute isn't
// called full any longer: it may be dead.
func (r *Room) Full(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of(id)
	r.tidy(id, o)
	return o.learnt > 0 && o.held+o.coming >= r.bound(o) && r.opt.Now().Sub(o.alive) < roomFullFor
}

// RoomStatus is what Room knows of a backend.
type RoomStatus struct {
	Connections int // logged in, waiting ones included
	Bound       int // beyond which none waits; 0: there is none
	Learnt      int // how many the backend takes, as its refusals taught; 0: not known
}

// Status returns what is known of a backend.
func (r *Room) Status(id string) RoomStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of(id)
	r.tidy(id, o)
	return RoomStatus{Connections: o.held, Bound: r.bound(o), Learnt: o.learnt}
}

package pair

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// Table has the claims of this process and of those that came before it and still serve sessions. A claim is the right
// to connections of a user at a backend. The rule: a process gets a claim only while no other process has one of the user at
// another backend. At the same backend all of them may have claims. (Within one process the router decides, as it does
// where there is only one.)
//
// The newest process decides. Each other one asks its successor before the first connection of a user to a backend, for
// itself and for those before it, and tells it when the last one has ended.
type Table struct {
	o Options

	// Guards what follows; nothing waits under it.
	mu      sync.Mutex
	users   map[string][]stay
	up      Successor // nil: this process decides
	lost    bool      // the successor can't be asked, and may still live
	asking  map[Stay]*question
	lastID  uint64
	away    map[string]sighting // where the successor has users, as it answered lately
	changed chan struct{}       // closed, and replaced, when claims end; nil: none waits for it
}

// Options have a usable zero value.
type Options struct {
	Now       func() time.Time // nil: time.Now
	AskWithin time.Duration    // how long the successor may take to answer; 0 = 2.5 s
	// LetGoEvery is how often the others are asked again to let go of a user who is waited for; 0 = 1 s.
	LetGoEvery time.Duration
}

// Stay is a user's claim at a backend.
type Stay struct{ User, Backend string }

// stay is a claim of one process: this one, or one before it.
type stay struct {
	of      *Predecessor // nil: this process
	backend string
	n       int // connections of this process; 1 for a predecessor
}

// sighting is where the successor had a user, and until when that may be used.
type sighting struct {
	backend string
	until   time.Time
}

// Predecessor is a process before this one, with those before it.
type Predecessor struct {
	t *Table
	// letGo asks it to let go of a user, or with abort to close the user's connections at once. It must not wait.
	letGo func(user string, abort bool)
}

// ErrWait: the successor can't be asked now, and may have the user elsewhere.
var ErrWait = errors.New("the process that took over can't be asked where the user is")

const (
	askWithin  = 2500 * time.Millisecond
	letGoEvery = time.Second
	awayFor    = 10 * time.Second
	maxAway    = 4096
)

// New returns a table of a process that decides.
func New(o Options) *Table {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.AskWithin <= 0 {
		o.AskWithin = askWithin
	}
	if o.LetGoEvery <= 0 {
		o.LetGoEvery = letGoEvery
	}
	return &Table{o: o, users: make(map[string][]stay), asking: make(map[Stay]*question), away: make(map[string]sighting)}
}

// find returns the index of a process's claim, -1 if it has none.
func find(stays []stay, of *Predecessor, backend string) int {
	return slices.IndexFunc(stays, func(s stay) bool { return s.of == of && s.backend == backend })
}

// conflictLocked returns a backend at which another process than of has the user, if that isn't backend.
func (t *Table) conflictLocked(of *Predecessor, user, backend string) string {
	for _, s := range t.users[user] {
		if s.of != of && s.backend != backend {
			return s.backend
		}
	}
	return ""
}

// hasLocked says whether any process of the table has a claim of the user at a backend: the successor knows of it.
func (t *Table) hasLocked(user, backend string) bool {
	return slices.ContainsFunc(t.users[user], func(s stay) bool { return s.backend == backend })
}

// addLocked adds a claim.
func (t *Table) addLocked(of *Predecessor, user, backend string) {
	stays := t.users[user]
	if i := find(stays, of, backend); i >= 0 {
		if of == nil {
			stays[i].n++
		}
		return
	}
	t.users[user] = append(stays, stay{of, backend, 1})
}

// release ends a claim, for this process or a predecessor.
func (t *Table) release(of *Predecessor, user, backend string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.releaseLocked(of, user, backend)
}

func (t *Table) releaseLocked(of *Predecessor, user, backend string) {
	stays := t.users[user]
	i := find(stays, of, backend)
	if i < 0 {
		return
	}
	if stays[i].n--; stays[i].n > 0 {
		return
	}
	if stays = slices.Delete(stays, i, i+1); len(stays) == 0 {
		delete(t.users, user)
	} else {
		t.users[user] = stays
	}
	if t.up != nil && !t.hasLocked(user, backend) && t.asking[Stay{user, backend}] == nil {
		t.up.Release(user, backend)
	}
	t.wakeLocked()
}

// wakeLocked wakes those that wait for claims to end.
func (t *Table) wakeLocked() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// Release ends a claim of this process.
func (t *Table) Release(user, backend string) { t.release(nil, user, backend) }

// Join adds a process before this one, which has no claims yet.
func (t *Table) Join(letGo func(user string, abort bool)) *Predecessor {
	return &Predecessor{t: t, letGo: letGo}
}

// Has sets the claims that the predecessor has: those from before it began to ask, or, where it couldn't be reached for a while, those
// that it has now. (It may have ended others meanwhile, and may not know of some that it was granted.)
func (p *Predecessor) Has(stays ...Stay) {
	t := p.t
	t.mu.Lock()
	defer t.mu.Unlock()
	has := make(map[Stay]bool, len(stays))
	for _, s := range stays {
		has[s] = true
		t.addLocked(p, s.User, s.Backend)
	}
	for user, all := range t.users {
		for _, s := range slices.Clone(all) {
			if s.of == p && !has[Stay{user, s.backend}] {
				t.releaseLocked(p, user, s.backend)
			}
		}
	}
}

// Release ends a claim of the predecessor.
func (p *Predecessor) Release(user, backend string) { p.t.release(p, user, backend) }

// End ends all claims of the predecessor. Its process, and those before it, have ended, or have closed all of their connections.
func (p *Predecessor) End() {
	t := p.t
	t.mu.Lock()
	defer t.mu.Unlock()
	for user, stays := range t.users {
		for _, s := range slices.Clone(stays) {
			if s.of == p {
				t.releaseLocked(p, user, s.backend)
			}
		}
	}
}

// Users returns how many users the predecessor has.
func (p *Predecessor) Users() (n int) {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	for _, stays := range p.t.users {
		if slices.ContainsFunc(stays, func(s stay) bool { return s.of == p }) {
			n++
		}
	}
	return n
}

// question is one that the successor hasn't answered.
type question struct {
	id        uint64
	waiting   int           // claims that wait for the answer
	done      chan struct{} // closed when what follows is set
	answered  bool
	ok        bool
	failed    bool   // there was no answer
	elsewhere string // "" though not ok: the successor can't say it now
}

// Successor is the process after this one. Its methods are called under the table's lock, in the order in which things happen: they
// must not wait, and must keep the order.
type Successor interface {
	// Has passes the claims that exist when the successor begins to decide.
	Has([]Stay)
	// Ask asks for a claim; the answer comes by Answered.
	Ask(id uint64, s Stay)
	// Release tells that a claim has ended.
	Release(user, backend string)
}

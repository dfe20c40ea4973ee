package session

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"imapproxy/proxy/wire"
	"imapproxy/routing"
)

// Capabilities records what the backends can do: the lists before login, which health checks and logins read, and those after login. The zero value
// knows none.
//
// Before login, clients are told of what all backends have to which a login may go: some clients rely after login on what they were told before it. A
// client that relies on LITERAL+ (RFC 7888) may not be told of it by mistake: a backend without the extension takes the literal's bytes for commands. Of a backend that isn't
// known, nothing is promised.
type Capabilities struct {
	lists    sync.Map                // list → *backendCaps, one entry for each kind of backend
	promised atomic.Pointer[promise] // what is announced before login; nil: it has to be found anew

	mu       sync.Mutex             // guards the fields below
	backends map[string]*knownAbout // by id; there may be some of backends that are gone
}

const (
	maxKnown = 4096 // backends
	maxLists = 8    // lists of one backend: it may have other extensions for some users
)

// listsFor is how long the lists of a backend count after one that came later.
const listsFor = time.Hour

// backendCaps is one capability list, shared by all sessions that have it.
type backendCaps struct{ list wire.Caps }

// knownAbout is what is known of one backend.
type knownAbout struct {
	before   *backendCaps // the list before login; nil: not known
	beforeAt time.Time    // when it was read last
	after    []afterLogin // the lists after login since before has changed last, the latest first
}

// afterLogin is a list that a user was given.
type afterLogin struct {
	caps *backendCaps
	at   time.Time // the last time
}

// promise is what is announced before login.
type promise struct {
	router  *routing.Router
	changed <-chan struct{} // closed when the backends have changed
	caps    wire.Caps
	settled bool // every list that is known counts, so that one that is read again changes nothing
}

// of returns the shared copy of a list.
func (l *Capabilities) of(c wire.Caps) *backendCaps {
	key := c.String()
	if v, ok := l.lists.Load(key); ok {
		return v.(*backendCaps)
	}
	v, _ := l.lists.LoadOrStore(strings.Clone(key), &backendCaps{list: slices.Clone(c)})
	return v.(*backendCaps)
}

// aboutLocked returns what is known of a backend.
func (l *Capabilities) aboutLocked(backend string) *knownAbout {
	k := l.backends[backend]
	if k == nil {
		if l.backends == nil || len(l.backends) >= maxKnown {
			l.backends = map[string]*knownAbout{}
		}
		k = &knownAbout{}
		l.backends[backend] = k
	}
	return k
}

// Listed records a backend's list before login. If it isn't what it was, the backend is another program by now, and its lists after login are forgotten.
func (l *Capabilities) Listed(backend string, caps wire.Caps, now time.Time) {
	if len(caps) == 0 {
		return
	}
	list := l.of(caps)
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.aboutLocked(backend)
	fresh := k.before != list
	if fresh && k.before != nil {
		k.after = nil
	}
	k.before, k.beforeAt = list, now
	l.reviseLocked(fresh)
}

// reviseLocked has the promise found anew, if what was read can change it.
func (l *Capabilities) reviseLocked(fresh bool) {
	if p := l.promised.Load(); p != nil && (fresh || !p.settled) {
		l.promised.Store(nil)
	}
}

// listedBy returns Listed for one backend.
func (l *Capabilities) listedBy(backend string, now func() time.Time) func(wire.Caps) {
	return func(c wire.Caps) { l.Listed(backend, c, now()) }
}

// saw records a backend's list after login, and returns its shared copy.
func (l *Capabilities) saw(backend string, caps wire.Caps, now time.Time) *backendCaps {
	list := l.of(caps)
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.aboutLocked(backend)
	fresh := len(k.after) == 0 || k.after[0].caps != list
	if fresh {
		k.after = slices.DeleteFunc(k.after, func(a afterLogin) bool { return a.caps == list || now.Sub(a.at) > listsFor })
		k.after = slices.Insert(k.after, 0, afterLogin{caps: list})
		k.after = k.after[:min(len(k.after), maxLists)]
	}
	k.after[0].at = now
	l.reviseLocked(fresh)
	return list
}

// at returns the list that a backend was last seen to have, nil if no login was seen there.
func (l *Capabilities) at(backend string) *backendCaps {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.backends[backend]; k != nil && len(k.after) > 0 {
		return k.after[0].caps
	}
	return nil
}

// listsSince returns the lists that hold for any user of the backend, as far as they were read after it was lost last. After the first login the list
// before login says nothing more.
func (k *knownAbout) listsSince(lost time.Time) []wire.Caps {
	var all []wire.Caps
	for _, a := range k.after {
		if !a.at.Before(lost) {
			all = append(all, a.caps.list)
		}
	}
	if len(all) == 0 && k.before != nil && !k.beforeAt.Before(lost) {
		all = append(all, k.before.list)
	}
	return all
}

// settledSince says whether each list after login counts.
func (k *knownAbout) settledSince(lost time.Time) bool {
	return len(k.after) > 0 && !slices.ContainsFunc(k.after, func(a afterLogin) bool { return a.at.Before(lost) })
}

// common returns what all backends have that aren't down, without what the proxy takes over or announces itself. It is nil if one of them isn't known.
func (l *Capabilities) common(r *routing.Router) wire.Caps {
	if p := l.promised.Load(); p != nil && p.router == r {
		select {
		case <-p.changed:
		default:
			return p.caps
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	backends, changed := r.Serving()
	p := &promise{router: r, changed: changed, settled: true}
	var lists []wire.Caps
	unknown := false
	for _, b := range backends {
		var of []wire.Caps
		if k := l.backends[b.ID]; k != nil {
			of = k.listsSince(b.Lost)
			p.settled = p.settled && k.settledSince(b.Lost)
		}
		unknown = unknown || of == nil
		lists = append(lists, of...)
	}
	if p.settled = p.settled && !unknown; !unknown {
		p.caps = inCommon(lists)
	}
	l.promised.Store(p)
	return p.caps
}

// inCommon returns what is in all lists and may be announced before login. LITERAL+ is more than LITERAL-, which is a part of IMAP4rev2
// (RFC 9051).
func inCommon(lists []wire.Caps) wire.Caps {
	if len(lists) == 0 {
		return nil
	}
	var all wire.Caps
	if literals := literalsOf(lists); literals != "" {
		all = append(all, literals)
	}
	for _, name := range lists[0] {
		if !hidden(name) && !ownBeforeLogin(name) && !all.Has(name) && !slices.ContainsFunc(lists[1:], func(c wire.Caps) bool { return !c.Has(name) }) {
			all = append(all, name)
		}
	}
	return all
}

// literalsOf returns which of LITERAL+ and LITERAL- all lists have, "" if neither.
func literalsOf(lists []wire.Caps) string {
	least := "LITERAL+"
	for _, c := range lists {
		switch {
		case c.Has("LITERAL+"):
		case c.Has("LITERAL-"), c.Has("IMAP4rev2"):
			least = "LITERAL-"
		default:
			return ""
		}
	}
	return least
}

// ownBeforeLogin says whether the list before login has the capability, or not, whatever the backends can do.
func ownBeforeLogin(name string) bool {
	switch strings.ToUpper(name) {
	case "IMAP4REV1", "SASL-IR", "ID", "LITERAL+", "LITERAL-":
		return true
	}
	return false
}

// Known returns what a backend can do, without what the proxy takes over. login: it is what all users have; otherwise it is what the backend lists before login, and nil if that isn't known either.
func (l *Capabilities) Known(backend string) (caps []string, login bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.backends[backend]
	switch {
	case k == nil:
		return nil, false
	case len(k.after) > 0:
		all := k.after[0].caps.list.Without(hidden)
		for _, a := range k.after[1:] {
			all = all.Without(func(name string) bool { return !a.caps.list.Has(name) })
		}
		return all, true
	case k.before != nil:
		return k.before.list.Without(hidden), false
	}
	return nil, false
}

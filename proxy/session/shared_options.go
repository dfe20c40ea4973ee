package session

import (
	"context"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru"

	"imapproxy/proxy/shared"
	"imapproxy/telemetry"
)

// SharedOptions are the settings of shared mailboxes (docs/shared.md). With the zero value there are none.
type SharedOptions struct {
	Space    shared.Space
	Password telemetry.Secret // with which any user is a master user at the backends
	// Owners names the users whose mailboxes LIST looks for, at most max. nil: LIST finds none.
	Owners func(ctx context.Context, max int) ([]string, error)
	// Within is how long an answer about an owner's mailboxes counts for LIST; 0: sharedListFor.
	Within time.Duration
}

// Bounds of shared mailboxes.
const (
	maxOwners      = 256   // whose mailboxes one LIST looks for
	maxOwned       = 1000  // mailboxes of one owner in a LIST
	maxSharedLists = 4096  // answers that are remembered, of maxSharedOctets at most
	maxAcross      = 10000 // messages of one COPY or MOVE between backends
)

// maxSharedOctets bounds the memory of remembered answers, counted by sharedList.octets.
const maxSharedOctets = 64 << 20

// sharedListFor is how long an answer about an owner's mailboxes counts for LIST. Rights don't depend on it.
const sharedListFor = time.Minute

// sharedWithin bounds a connection to an owner's backend, and each of the proxy's own commands there.
const sharedWithin = 30 * time.Second

// SharedLists remembers which mailboxes owners share with users. Its zero value is empty.
type SharedLists struct {
	mu     sync.Mutex // guards what follows; no I/O under it
	all    *lru.Cache // of sharedList by sharedPair; nil until there is one
	octets int        // of all
}

// sharedPair is what an answer is about. utf8: its names are in UTF-8, since the client has enabled that; otherwise they are in modified UTF-7.
type sharedPair struct {
	owner, user string
	utf8        bool
}

type sharedList struct {
	entries []shared.Entry
	at      time.Time
}

// octets is about what a sharedList takes.
func (l sharedList) octets() int {
	n := 200 // of the cache
	for _, e := range l.entries {
		n += 64 + len(e.Name)
		for _, a := range e.Attributes {
			n += 32 + len(a)
		}
	}
	return n
}

func (l *SharedLists) get(p sharedPair, since time.Time) ([]shared.Entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		return nil, false
	}
	if one, ok := l.all.Get(p); ok && one.(sharedList).at.After(since) {
		return one.(sharedList).entries, true
	}
	return nil, false
}

func (l *SharedLists) put(p sharedPair, entries []shared.Entry, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		all, err := lru.NewWithEvict(maxSharedLists, func(_, one any) { l.octets -= one.(sharedList).octets() })
		if err != nil {
			return // can't happen: the size is a positive constant
		}
		l.all = all
	}
	l.all.Remove(p)
	one := sharedList{entries, now}
	l.octets += one.octets()
	for l.all.Add(p, one); l.octets > maxSharedOctets && l.all.Len() > 1; {
		l.all.RemoveOldest()
	}
}

func (l *SharedLists) forget(owner, user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all != nil {
		l.all.Remove(sharedPair{owner, user, false})
		l.all.Remove(sharedPair{owner, user, true})
	}
}

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
	maxSharedLists = 4096  // answers that are remembered
	maxAcross      = 10000 // messages of one COPY or MOVE between backends
)

// sharedListFor is how long an answer about an owner's mailboxes counts for LIST. Rights don't depend on it.
const sharedListFor = time.Minute

// sharedWithin bounds a connection to an owner's backend, and each of the proxy's own commands there.
const sharedWithin = 30 * time.Second

// SharedLists remembers which mailboxes owners share with users. Its zero value is empty.
type SharedLists struct {
	mu  sync.Mutex // guards all; no I/O under it
	all *lru.Cache // of sharedList by sharedPair; nil until there is one
}

type sharedPair struct{ owner, user string }

type sharedList struct {
	entries []shared.Entry
	at      time.Time
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
		all, err := lru.New(maxSharedLists)
		if err != nil {
			return // can't happen: the size is a positive constant
		}
		l.all = all
	}
	l.all.Add(p, sharedList{entries, now})
}

func (l *SharedLists) forget(p sharedPair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all != nil {
		l.all.Remove(p)
	}
}

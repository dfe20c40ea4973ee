package session

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"imapproxy/proxy/wire"
)

// Capabilities records the capability lists of the backends. The zero value knows none.
//
// Clients are told of LITERAL+ or LITERAL- (RFC 7888) before login. The proxy itself reads such literals then,
// but some clients rely after login on what they were told before it, and a backend without the extension
// takes the literal's bytes for a command. So the proxy announces what all backends have at which a login was
// seen, and nothing before the first login.
type Capabilities struct {
	lists sync.Map               // list → *backendCaps, one entry for each kind of backend
	told  atomic.Pointer[string] // the extension that is announced before login; nil: none

	mu sync.Mutex // guards the fields below
	// backends is which of the two extensions each backend was seen to have, by id. Backends that are gone
	// count too, until there are too many.
	backends map[string]string
	// seen is each backend's whole list, as of the last login there.
	seen map[string]*backendCaps
}

const maxLiterals = 4096

// backendCaps is one capability list, shared by all sessions that have it.
type backendCaps struct{ list wire.Caps }

// of returns the shared copy of a list.
func (l *Capabilities) of(c wire.Caps) *backendCaps {
	key := c.String()
	if v, ok := l.lists.Load(key); ok {
		return v.(*backendCaps)
	}
	v, _ := l.lists.LoadOrStore(strings.Clone(key), &backendCaps{list: slices.Clone(c)})
	return v.(*backendCaps)
}

// saw records a backend's list after login.
func (l *Capabilities) saw(backend string, caps wire.Caps) {
	has := ""
	switch {
	case caps.Has("LITERAL+"):
		has = "LITERAL+"
	case caps.Has("LITERAL-"), caps.Has("IMAP4rev2"): // RFC 9051 includes LITERAL-
		has = "LITERAL-"
	}
	list := l.of(caps)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil || len(l.seen) >= maxLiterals {
		l.seen = map[string]*backendCaps{}
	}
	l.seen[backend] = list
	if old, known := l.backends[backend]; known && old == has {
		return
	}
	if l.backends == nil || len(l.backends) >= maxLiterals {
		l.backends = map[string]string{}
	}
	l.backends[backend] = has
	least := "LITERAL+"
	for _, h := range l.backends {
		if h != "LITERAL+" && least != "" {
			least = h
		}
	}
	l.told.Store(&least)
}

// at returns the list that a backend was last seen to have, nil if no login was seen there.
func (l *Capabilities) at(backend string) *backendCaps {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[backend]
}

// literals returns which of LITERAL+ and LITERAL- is announced before login, "" if neither is.
func (l *Capabilities) literals() string {
	if told := l.told.Load(); told != nil {
		return *told
	}
	return ""
}

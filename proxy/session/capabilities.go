package session

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"imapproxy/proxy/wire"
)

// Capabilities are what is known of the backends' capability lists. The zero value knows of none.
//
// Of LITERAL+ and LITERAL- (RFC 7888) clients are told before login. The proxy itself reads
// such literals there, but there are clients that go on using what they were told before login when they have
// logged in, and a backend without it takes the literal's bytes for a command. So it is told what all
// backends have that a login was seen at, and nothing before the first.
type Capabilities struct {
	lists sync.Map               // list → *backendCaps, one for each kind of backend
	told  atomic.Pointer[string] // nil: nothing

	mu sync.Mutex // guards what follows
	// backends has what each backend was seen to have, by id; those that are gone count, too, until
	// there are too many.
	backends map[string]string
	// seen has each backend's whole list, as of the last login that was seen there.
	seen map[string]*backendCaps
}

const maxLiterals = 4096

// backendCaps is one capability list, shared by all sessions that have it.
type backendCaps struct{ list wire.Caps }

// of returns the one copy of a list.
func (l *Capabilities) of(c wire.Caps) *backendCaps {
	key := c.String()
	if v, ok := l.lists.Load(key); ok {
		return v.(*backendCaps)
	}
	v, _ := l.lists.LoadOrStore(strings.Clone(key), &backendCaps{list: slices.Clone(c)})
	return v.(*backendCaps)
}

// saw learns from a backend's list after login.
func (l *Capabilities) saw(backend string, caps wire.Caps) {
	has := ""
	switch {
	case caps.Has("LITERAL+"):
		has = "LITERAL+"
	case caps.Has("LITERAL-"), caps.Has("IMAP4rev2"): // RFC 9051 has LITERAL- in it
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

// at is what a backend was seen to have, nil where no login was seen there.
func (l *Capabilities) at(backend string) *backendCaps {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[backend]
}

// literals is which of LITERAL+ and LITERAL- is told before login, "" where that is neither.
func (l *Capabilities) literals() string {
	if told := l.told.Load(); told != nil {
		return *told
	}
	return ""
}

package proxy

import (
	"sync"
	"sync/atomic"

	"imapproxy/proxy/wire"
)

// literals is which of LITERAL+ and LITERAL- (RFC 7888) is told before login. The proxy itself reads
// such literals there, but there are clients that go on using what they were told before login when they have
// logged in, and a backend without it takes the literal's bytes for a command. So it is told what all
// backends have that a login was seen at, and nothing before the first.
type literals struct {
	told atomic.Pointer[string] // nil: nothing

	mu sync.Mutex // guards backends
	// backends has what each backend was seen to have, by id; those that are gone count, too, until
	// there are too many.
	backends map[string]string
}

const maxLiterals = 4096

// saw learns from a backend's list after login.
func (l *literals) saw(backend string, caps wire.Caps) {
	has := ""
	switch {
	case caps.Has("LITERAL+"):
		has = "LITERAL+"
	case caps.Has("LITERAL-"), caps.Has("IMAP4rev2"): // RFC 9051 has LITERAL- in it
		has = "LITERAL-"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
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

// capability is what is told, "" where that is nothing.
func (l *literals) capability() string {
	if told := l.told.Load(); told != nil {
		return *told
	}
	return ""
}

package session

import (
	"sync"
	"time"
)

// kicks records when users were kicked, for as long as a login that began before may take. The zero value is
// usable.
type kicks struct {
	mu   sync.Mutex // guards the fields below
	last map[string]time.Time
}

// note records a kick, and forgets kicks from before old.
func (k *kicks) note(user string, now, old time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for other, at := range k.last {
		if at.Before(old) {
			delete(k.last, other)
		}
	}
	if k.last == nil {
		k.last = map[string]time.Time{}
	}
	k.last[user] = now
}

// since says whether a user was kicked at t or later.
func (k *kicks) since(user string, t time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.last[user]
	return ok && !at.Before(t)
}

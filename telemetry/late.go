package telemetry

import (
	"sync"

	"go.opentelemetry.io/otel/trace"
)

// keptLate is how many of the latest logins can still be kept when a command of theirs is slow or fails. At about 2 KB a login, all of
// them take 4 MB.
const keptLate = 2048

// lateLogins has the latest logins whose traces weren't kept, by session. A trace of a slow or failed command explains more with its login's.
type lateLogins struct {
	mu     sync.Mutex // guards the fields below; it isn't held while spans are made
	all    map[string]lateLogin
	oldest ring[string] // the sessions, in the order of their logins
}

// lateLogin is a login that can still be kept: keep makes its spans and returns the first one's context.
type lateLogin interface{ keep() trace.SpanContext }

// of returns a session's login, nil if it isn't known.
func (r *lateLogins) of(session string) lateLogin {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[session]
}

// remember stores a login whose trace isn't kept.
func (r *lateLogins) remember(session string, l lateLogin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]lateLogin{}
	}
	if _, again := r.all[session]; !again {
		if len(r.oldest.all) == keptLate {
			delete(r.all, r.oldest.all[r.oldest.next])
		}
		r.oldest.add(session, keptLate)
	}
	r.all[session] = l
}

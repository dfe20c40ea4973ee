package session

import (
	"time"

	"imapproxy/proxy/upstream"
)

// While a session is being parked, and at some other moments, its owner sends the backend commands of the proxy's own on the session's
// connection. What the client says meanwhile waits, and no command of the client's shows that the backend doesn't answer.

// asking is such an exchange.
type asking struct {
	since time.Time // by the clock of Env
	began time.Time // by the system's
}

// clocksDiffer is how much later the kernel may say that something came than it did.
const clocksDiffer = 20 * time.Millisecond

// heard returns when something last came from the backend during the exchange; its beginning if nothing has.
func (a *asking) heard(b *upstream.Conn, now time.Time) time.Time {
	if received := b.SinceReceived(); received+clocksDiffer < time.Since(a.began) {
		return now.Add(-received)
	}
	return a.since
}

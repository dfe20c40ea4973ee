package idlers

import (
	"fmt"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A waiter idles, and now and then says how many messages it was told of.
type waiter struct {
	a    *account
	c    *imaptest.Client
	n    int
	done func() imaptest.Answer
}

func newWaiter(a *account) *waiter {
	a.Helper()
	w := &waiter{a: a, c: imaptest.DialTLS(a, a.l.TLS, a.l.Cert.Client)}
	w.c.Login(a.user, servers.Password)
	w.count(w.c.MustOK("SELECT INBOX"))
	w.done = w.c.Idle()
	return w
}

// count follows an answer.
func (w *waiter) count(r imaptest.Answer) {
	for _, r := range r.Untagged {
		switch {
		case r.Word(2) == "EXISTS":
			if _, err := fmt.Sscan(r.Word(1), &w.n); err != nil {
				w.a.Fatal(err)
			}
		case r.Word(2) == "EXPUNGE":
			w.n--
		}
	}
}

// sees ends IDLE, fails unless so many messages were told of by the next NOOP, looks at
// them, and idles again.
func (w *waiter) sees(want int) {
	w.a.Helper()
	w.count(w.done())
	w.count(w.c.MustOK("NOOP"))
	if w.n != want {
		w.a.Fatalf("who idles was told of %d messages, want %d", w.n, want)
	}
	if got := w.c.MustOK("FETCH 1:* (UID)").Untagged; len(got) != want {
		w.a.Fatalf("who idles finds %d messages, want %d", len(got), want)
	}
	w.done = w.c.Idle()
}

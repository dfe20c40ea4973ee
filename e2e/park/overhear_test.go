package park

import (
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// overheard counts what is said to a server.
type overheard struct {
	t    *testing.T
	addr string        // where the server is reached
	said chan struct{} // has one for each time
	n    int
}

// overhear listens for a word in the lines that clients of addr write.
func overhear(t *testing.T, addr, word string) *overheard {
	t.Helper()
	tap := imaptest.NewTap(t, addr)
	o := &overheard{t: t, addr: tap.Addr, said: make(chan struct{}, 1000)}
	tap.OnUp(func(_ *imaptest.Tapped, line string) bool {
		if strings.Contains(line, word) {
			o.said <- struct{}{}
		}
		return true
	})
	return o
}

// until waits until it was said n times.
func (o *overheard) until(n int) {
	o.t.Helper()
	for late := time.After(patience); o.n < n; o.n++ {
		select {
		case <-o.said:
		case <-late:
			o.t.Fatalf("said %d times, not %d", o.n, n)
		}
	}
}

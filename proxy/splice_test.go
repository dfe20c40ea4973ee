package proxy

import (
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

func TestNoLiteralIsSplicedBehindTheLastLine(t *testing.T) {
	l := politeWith(t, commands{"FETCH": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if err := c.SendRaw("* 1 FETCH (BODY[] {200000}\r\n" + strings.Repeat("M", 200_000) + ")\r\n"); err != nil {
			return err
		}
		return c.DrainUntilEOF()
	}}, labOptions{})
	c := l.login("alice")
	s := l.only()
	// The session's end as its own goroutine leaves it between the last line and
	// hangUp; the backend's answer comes in that moment.
	s.out.mu.Lock()
	s.out.closed = true
	s.out.mu.Unlock()
	c.Write("a1 FETCH 1 BODY[]")
	l.backends[0].WaitOpen(0)
	s.terminate(ReasonShutdown)
	s.hangUp()
	if got, err := readAll(t, c); got != "" || err != nil {
		t.Errorf("behind the last line there are %d bytes %.40q %v", len(got), got, err)
	}
	must(t, c.Conn.Close())
}

package session

import (
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// held is how many octets a session holds of what it has sent compressed.
func (s *Session) held() int {
	s.out.writeMu.Lock() // of the client's connection
	defer s.out.writeMu.Unlock()
	return s.client.HeldOfSent()
}

// A compressed session holds what its client was sent last while it is attached, and none of it while it is dormant or parked.
func TestAPausedSessionHoldsNothingOfWhatItsClientWasSent(t *testing.T) {
	text := strings.Repeat("a word and another one ", 20)
	b := imaptest.NewBackend(t, polite(map[string]imaptest.CommandFunc{"STATUS": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		for range 40 {
			if err := c.Send("* OK " + text); err != nil {
				return err
			}
		}
		return c.Send(cmd.Tag() + " OK done")
	}}))
	r := newRig(t, b, staysAttached)
	c := r.login("alice")
	s := r.only()
	set := *s.lis.Settings()
	set.Compress, set.CompressHistory = true, 8<<10
	s.lis.Set(set)
	must(t, c.Compress())
	reads := func() {
		t.Helper()
		c.MustOK("STATUS INBOX (MESSAGES)")
		eventually(t, "the history of what was sent", func() bool { return s.held() > 4<<10 })
	}
	reads()
	r.dormant()
	eventually(t, "a dormant session without it", func() bool { return s.held() == 0 })
	reads()
	r.dormant()
	s.LetGo(false)
	eventually(t, "a parked session", func() bool { return s.Attachment() == Parked })
	eventually(t, "one without it", func() bool { return s.held() == 0 })
	reads()
}

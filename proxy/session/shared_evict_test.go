package session

import (
	"testing"

	"imapproxy/proxy/upstream"
)

// A session that gives its own connection up beside a shared mailbox just when LetGo is to cut it has nothing to give up: it goes on.
func TestACutFindsTheOwnConnectionGivenUp(t *testing.T) {
	for want, gives := range map[Reason]bool{"": true, ReasonMoved: false} {
		s := bare(t, phaseShared)
		ours, _ := oneConn(t)
		s.backend.Store(&upstream.Conn{Conn: ours})
		set := s.env.Settings()
		s.env.Settings = func() *Settings { // LetGo has seen the connection by then
			if gives {
				s.backend.Store(nil)
			}
			return set
		}
		if s.LetGo(true); s.Reason() != want {
			t.Errorf("it has ended for %q, not for %q", s.Reason(), want)
		}
	}
}

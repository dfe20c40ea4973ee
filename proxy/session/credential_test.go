package session

import (
	"bytes"
	"testing"

	"imapproxy/internal/imaptest"
)

// held is the password as a session holds it, in the session's own memory.
func held(t *testing.T, s *Session) []byte {
	t.Helper()
	c := s.cred
	c.mu.Lock()
	defer c.mu.Unlock()
	if string(c.password) != password {
		t.Fatalf("it holds %q", c.password)
	}
	return c.password
}

// A session's password is needed for as long as it lasts, and is overwritten when it ends.
func TestAPasswordIsOverwrittenWhenItsSessionEnds(t *testing.T) {
	for _, name := range []string{"logout", "parked, and gone"} {
		t.Run(name, func(t *testing.T) {
			b := imaptest.NewModelServer(t, imaptest.ModelServerOptions{QResync: true})
			r := newRig(t, b.Backend)
			c := r.login("alice")
			c.MustOK("CREATE INBOX")
			s := r.only()
			if name != "logout" {
				c.MustOK("SELECT INBOX")
				c.Write("i IDLE")
				c.Expect("+{*}")
				r.parked()
			}
			memory := held(t, s)
			if name == "logout" {
				c.MustOK("LOGOUT")
			} else {
				_ = c.Conn.Close()
			}
			eventually(t, "the session's end", func() bool { _, ok := s.cred.reveal(); return !ok })
			s.cred.mu.Lock() // wipe cleared it while holding the lock
			if !bytes.Equal(memory, make([]byte, len(memory))) {
				t.Errorf("%q is left", memory)
			}
			s.cred.mu.Unlock()
			eventually(t, "the session to be gone", func() bool { return len(r.env.Registry.OfUser("alice")) == 0 })
			if s.cred.is("") {
				t.Error("what was wiped is the same as no password")
			}
			if _, err := s.loginAgain(t.Context(), 0, nil); err == nil || endOf(err) == ReasonCredentials {
				t.Errorf("a login with it: %v", err)
			}
		})
	}
}

// A login that the backend accepts and the user's limit refuses leaves no password behind.
func TestAPasswordIsOverwrittenWhenALimitRefusesItsLogin(t *testing.T) {
	r := newRig(t, imaptest.NewBackend(t, polite(nil)), func(s *Settings) { s.Limits.PerUser = 1 })
	r.login("alice")
	c := imaptest.Dial(t, r.addr)
	if a := c.TryLogin("alice", password).Tagged; a.Code() != "LIMIT" {
		t.Fatal(a)
	}
	refused := 0
	r.env.Registry.Each(func(s *Session) {
		if s.loggedIn.Load() {
			return
		}
		refused++
		s.cred.mu.Lock()
		defer s.cred.mu.Unlock()
		if s.cred.password != nil {
			t.Errorf("it holds %q", s.cred.password)
		}
	})
	if refused != 1 {
		t.Errorf("%d sessions aren't logged in", refused)
	}
}

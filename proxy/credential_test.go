package proxy

import (
	"bytes"
	"testing"

	"imapproxy/internal/imaptest"
)

// held is the password as a user's session holds it, in its own memory.
func held(t *testing.T, l *lab, user string) []byte {
	t.Helper()
	all := l.srv.reg.ofUser(user)
	if len(all) != 1 {
		t.Fatalf("%d sessions of %s", len(all), user)
	}
	c := all[0].cred
	c.mu.Lock()
	defer c.mu.Unlock()
	if string(c.password) != password {
		t.Fatalf("it holds %q", c.password)
	}
	return c.password
}

// A session's password is needed for as long as it lasts, and is overwritten when it ends.
func TestAPasswordIsOverwrittenWhenItsSessionEnds(t *testing.T) {
	t.Parallel()
	p := newScripted(t, scriptedCaps, 3)
	for name, end := range map[string]func() *imaptest.Client{
		"logout": func() *imaptest.Client {
			c := p.login("alice")
			return c
		},
		"parked, and gone": func() *imaptest.Client { return p.idle("SELECT INBOX") },
	} {
		c := end()
		s := p.srv.reg.ofUser("alice")[0]
		memory := held(t, p.lab, "alice")
		if name == "logout" {
			c.MustOK("LOGOUT")
		} else {
			_ = c.Conn.Close()
		}
		eventually(t, "the session's end", func() bool { _, ok := s.cred.reveal(); return !ok })
		s.cred.mu.Lock() // it was cleared under it
		if !bytes.Equal(memory, make([]byte, len(memory))) {
			t.Errorf("%s: %q is left", name, memory)
		}
		s.cred.mu.Unlock()
		eventually(t, "the session to be gone", func() bool { return len(p.srv.reg.ofUser("alice")) == 0 })
		if s.cred.is("") {
			t.Error("what was wiped is the same as no password")
		}
		if _, err := s.loginAgain(t.Context()); err == nil || endOf(err) == ReasonCredentials {
			t.Errorf("a login with it: %v", err)
		}
	}
}

// A login that the backend accepts and the user's limit refuses leaves no password behind.
func TestAPasswordIsOverwrittenWhenALimitRefusesItsLogin(t *testing.T) {
	l := newLab(t, labOptions{limits: Limits{PerUser: 1}})
	l.login("alice")
	c := l.dial(plain)
	if r := c.TryLogin("alice", password).Tagged; r.Code() != "LIMIT" {
		t.Fatal(r)
	}
	refused := 0
	l.srv.reg.each(func(s *Session) {
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

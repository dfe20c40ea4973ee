package servers

import (
	"net"
	"testing"

	"imapproxy/internal/imaptest"
)

// A Dovecot as Debian ships it takes ten connections of a user from one address,
// and believes no client that says it speaks for another address. The tests' usual
// Dovecot believes it, so that there the limit counts each address by itself.
func TestDovecotAsDebianShipsIt(t *testing.T) {
	s := StartDovecot(t, DovecotOptions{Stock: true})
	serves(t, s)
	if n, a := logins(t, s, 11); n != 10 {
		t.Errorf("%d connections of a user were let in, then %s", n, a)
	}
	s = StartDovecot(t, DovecotOptions{Extra: "protocol imap {\n  mail_max_userip_connections = 10\n}\n"})
	if n, a := logins(t, s, 11); n != 11 {
		t.Errorf("%d connections of a user, each for another address, were let in by a trusting Dovecot, then %s", n, a)
	}
}

// logins opens connections of one user, each in the name of another address,
// until one is refused, and returns how many were let in.
func logins(t *testing.T, s *Server, most int) (int, imaptest.Answer) {
	t.Helper()
	for i := range most {
		c := imaptest.Dial(t, s.Addr)
		c.MustOK(`ID ("x-originating-ip" "192.0.2.%d")`, i+1)
		if a := c.TryLogin(User(2), Password); !a.OK() {
			return i, a
		}
	}
	return most, imaptest.Answer{}
}

// A Cyrus with Debian's limits serves its users; with maxchild 2 the third
// connection hears nothing until one of the others has gone.
func TestCyrusAsDebianShipsIt(t *testing.T) {
	serves(t, StartCyrusWith(t, CyrusOptions{Users: 3, Stock: true}))
	s := StartCyrusWith(t, CyrusOptions{Users: 3, Stock: true, MaxChild: 2})
	a, b := imaptest.Dial(t, s.Addr), imaptest.Dial(t, s.Addr)
	a.Login(User(1), Password)
	b.Login(User(2), Password)
	third, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	greeted := make(chan error, 1)
	// Ends when the third connection is greeted or closed.
	go func() {
		_, err := third.Read(make([]byte, 1))
		greeted <- err
	}()
	// Both are served still, one command after another, and the third isn't.
	for range 50 {
		a.MustOK("NOOP")
		b.MustOK("NOOP")
	}
	select {
	case err := <-greeted:
		t.Fatalf("the third connection was served beside two others (%v)", err)
	default:
	}
	a.MustOK("LOGOUT")
	if err := <-greeted; err != nil {
		t.Fatal(err)
	}
}

package servers

import (
	"testing"

	"imapproxy/internal/imaptest"
)

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

func TestDovecotServesItsUsers(t *testing.T) {
	for _, store := range []string{"sdbox", "maildir"} {
		t.Run(store, func(t *testing.T) {
			s := StartDovecot(t, DovecotOptions{Store: store})
			serves(t, s)
		})
	}
}

func TestCyrusServesItsUsers(t *testing.T) { serves(t, StartCyrus(t)) }

func TestCourierServesItsUsers(t *testing.T) { serves(t, StartCourier(t)) }

func TestMoxServesItsUsers(t *testing.T) { serves(t, StartMox(t)) }

func TestDovecotOfUnknownRelease(t *testing.T) {
	for _, c := range []struct {
		version string
		known   bool
	}{
		{"2.3.19.1 (9b53102964)", true}, {"2.4.1-4 (7d8c0e5759)", true},
		{"2.30.1 (x)", false}, {"2.5.0 (x)", false}, {"3.0 (x)", false}, {"", false},
	} {
		if _, err := dovecotTemplate(c.version); (err == nil) != c.known {
			t.Errorf("%q: %v", c.version, err)
		}
	}
}

// serves checks what every test relies on: users log in and have a mailbox, a
// proxy login yields the intended user, a wrong password is refused.
func serves(t *testing.T, s *Server) {
	t.Helper()
	c := imaptest.Dial(t, s.Addr)
	c.Login(s.User(1), Password)
	t.Log(c.MustOK("CAPABILITY"))
	t.Log(c.MustOK("SELECT INBOX"))
	t.Log(c.MustOK("NAMESPACE"))
	c.Literal("APPEND INBOX ", imaptest.GeneratedMessage(1000, 1), "")
	c.MustOK("LOGOUT")

	c = imaptest.Dial(t, s.Addr)
	if c.TryLogin(s.User(1), "wrong").OK() {
		t.Error("a wrong password was accepted")
	}
	if !s.ProxyAuthz {
		return
	}
	c = imaptest.Dial(t, s.Addr)
	if a := c.Plain(User(1), MasterUser, MasterPassword); !a.OK() {
		t.Fatalf("proxy login: %s", a)
	}
	a := c.MustOK("STATUS INBOX (MESSAGES)")
	r, _ := a.Find("STATUS")
	if ok, _ := imaptest.Match("* STATUS INBOX (MESSAGES 1)", r); !ok {
		t.Errorf("as %s by way of the master: %s", User(1), r)
	}
}

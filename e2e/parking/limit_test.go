package parking

import (
	"errors"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// Dovecot's limit of connections for a user counts those that wait in the pool: they make
// room for one that can't use them. Which code it says it with is its version's affair.
func TestWarmConnectionsMakeRoomAtTheBackendsLimit(t *testing.T) {
	servers.Real(t)
	s := &site{Server: servers.StartDovecot(t, servers.DovecotOptions{Extra: "protocol imap {\n  mail_max_userip_connections = 1\n}\n"}), watch: "idle"}
	l := newLab(t, s, labOptions{warmFor: time.Minute, authCache: time.Minute})
	c := imaptest.Dial(t, l.Plain)
	c.Login(servers.User(1), servers.Password)
	c.MustOK("SELECT INBOX (CONDSTORE)")
	c.MustOK("LOGOUT")
	must(t, eventually(t.Context(), "the pool to have it", func() error {
		if l.app.Pool().Len() != 1 {
			return errors.New("it has none")
		}
		return nil
	}))
	again := imaptest.Dial(t, l.Plain)
	again.Login(servers.User(1), servers.Password)
	if a := l.tries(servers.User(1), servers.Password); a.OK() {
		t.Errorf("the limit isn't there: %s", a)
	} else {
		t.Log(a)
	}
}

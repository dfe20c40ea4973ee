package servers

import (
	"fmt"
	"os"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// The accounts of every server.
const (
	Users          = 300 // how many: User(1) … User(Users)
	Password       = "pw-Secret.1"
	MasterUser     = "proxy"
	MasterPassword = "pw-Master.1"
)

// User names the i-th user, from 1. mox's have a domain: see Server.User.
func User(i int) string { return fmt.Sprintf("user%03d", i) }

// A Server is a running IMAP server.
type Server struct {
	Kind    string // dovecot, cyrus, courier, mox: the name in the conditions of transcripts
	Name    string // for subtests: dovecot-sdbox, …
	Version string
	Addr    string // 127.0.0.1:port, in clear and, if TLSAddr isn't empty, STARTTLS
	TLSAddr string // implicit TLS; "" for Courier, which has none here
	// ProxyAuthz says whether SASL PLAIN's authorization id is honoured.
	// Courier ignores it and logs in as the authenticating user.
	ProxyAuthz bool

	// Domain follows each user's name: "" but for mox.
	Domain string

	// Direct is mox's own address: see StartMox. "" for all others.
	Direct string

	// OtherUsers is the prefix under which another user's mailboxes appear:
	// OtherUsers + user + "/" + mailbox. "" where there is none.
	OtherUsers string

	// Process is its main process: stopping it cuts its clients off.
	Process *Process

	// Mail is the folder of the mail, where Dovecot has a folder for each user, Cyrus one
	// for each mailbox, of any name. "" for Courier.
	Mail string

	// Log is Dovecot's log.
	Log string

	start       func(t testing.TB) *Process
	setPassword func(t testing.TB, user, password string)
	expire      func(t testing.TB)
}

// User names the i-th user, from 1, as this server wants it.
func (s *Server) User(i int) string { return User(i) + s.Domain }

// StartAgain runs a server whose Process has ended, at the same addresses and with the same mail. Dovecot's and
// Cyrus's only.
func (s *Server) StartAgain(t testing.TB) {
	t.Helper()
	s.Process = s.start(t)
}

// Expire has the server forget when messages were expunged. Only Cyrus has it.
func (s *Server) Expire(t testing.TB) {
	t.Helper()
	s.expire(t)
}

// SetPassword gives a user another password, and returns when it counts. Not
// Courier's.
func (s *Server) SetPassword(t testing.TB, user, password string) {
	t.Helper()
	s.setPassword(t, user, password)
	deadline := time.Now().Add(startTimeout)
	for {
		c := imaptest.Dial(t, s.Addr)
		a := c.TryLogin(user, password)
		_ = c.Close()
		if a.OK() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s doesn't take the new password: %s", s.Name, a)
		}
		time.Sleep(20 * time.Millisecond) // between two attempts
	}
}

// Real skips the test unless the machine was prepared by ./test.
func Real(t testing.TB) {
	t.Helper()
	if os.Getenv("IMAPPROXY_REAL") == "" {
		t.Skip("real servers aren't prepared here: run ./test (it sets IMAPPROXY_REAL)")
	}
}

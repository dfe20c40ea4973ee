package servers

import (
	"fmt"
	"os"
	"testing"
)

// The accounts of every server.
const (
	Users          = 150 // how many: User(1) … User(Users)
	Password       = "pw-Secret.1"
	MasterUser     = "proxy"
	MasterPassword = "pw-Master.1"
)

// User names the i-th user, from 1.
func User(i int) string { return fmt.Sprintf("user%03d", i) }

// A Server is a running IMAP server.
type Server struct {
	Kind    string // dovecot, cyrus, courier: what transcripts' conditions name
	Name    string // for subtests: dovecot-sdbox, …
	Version string
	Addr    string // 127.0.0.1:port, in clear and, if TLSAddr isn't empty, STARTTLS
	TLSAddr string // implicit TLS; "" for Courier, which has none here
	// ProxyAuthz says whether SASL PLAIN's authorization id is honoured.
	// Courier ignores it and logs in as the authenticating user.
	ProxyAuthz bool

	// OtherUsers is the prefix under which another user's mailboxes appear:
	// OtherUsers + user + "/" + mailbox. "" where there is none.
	OtherUsers string

	// Process is its main process: stopping it cuts its clients off.
	Process *Process
}

// Real skips the test unless the machine was prepared by ./test.
func Real(t testing.TB) {
	t.Helper()
	if os.Getenv("IMAPPROXY_REAL") == "" {
		t.Skip("real servers aren't prepared here: run ./test (it sets IMAPPROXY_REAL)")
	}
}

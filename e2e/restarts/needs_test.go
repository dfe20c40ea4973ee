package restarts

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A Cyrus is back before what it needs is: saslauthd, without which it refuses each login, and the disk with the mail. Clients wait for it;
// none is told that its password is wrong, or that its mailbox is gone.
func TestClientsOutliveWhatCyrusNeeds(t *testing.T) {
	servers.Real(t)
	t.Parallel()
	// saslauthd asks this Dovecot.
	d := servers.StartDovecot(t, servers.DovecotOptions{})
	_, port, err := net.SplitHostPort(d.Addr)
	if err != nil {
		t.Fatal(err)
	}
	dir := servers.Folder(t)
	mux := filepath.Join(dir, "mux")
	saslauthd := func() *servers.Process {
		t.Helper()
		p := servers.Start(t, "saslauthd", exec.Command("saslauthd", "-d", "-a", "rimap", "-O", "127.0.0.1/"+port, "-m", dir))
		eventually(t, "saslauthd listens", func() error {
			c, err := net.Dial("unix", mux)
			if err == nil {
				_ = c.Close()
			}
			return err
		})
		if err := os.Chmod(mux, 0o777); err != nil {
			t.Fatal(err)
		}
		return p
	}
	asked := saslauthd()
	const users = 2
	s := servers.StartCyrusWith(t, servers.CyrusOptions{Users: users, Settings: map[string]string{
		"sasl_pwcheck_method": "saslauthd", "sasl_saslauthd_path": mux, "sasl_mech_list": "PLAIN"}})
	p := startProxy(t, s)
	var clients []*imaptest.Client
	for i := range users {
		c := imaptest.Dial(t, p.addr)
		c.Login(s.User(1+i), servers.Password)
		c.MustOK("APPEND INBOX {8+}\r\nA: b\r\n\r\n")
		c.MustOK("SELECT INBOX")
		clients = append(clients, c)
	}
	without := func(away, back func()) {
		t.Helper()
		away()
		ends(t, s, "imapd", syscall.SIGTERM)
		for _, c := range clients {
			c.Write("x FETCH 1 (UID)")
		}
		for _, c := range clients {
			c.Expect("* OK Still here{*}")
		}
		back()
		for _, c := range clients {
			r := c.Read()
			for strings.HasPrefix(r.Text, "* OK Still here") {
				r = c.Read()
			}
			if r.Word(2) != "FETCH" {
				t.Errorf("%s, want FETCH", r)
				continue
			}
			c.Expect("x OK{*}")
		}
	}
	without(asked.Kill, func() { saslauthd() })
	without(
		func() {
			if err := os.Rename(s.Mail, s.Mail+".away"); err != nil {
				t.Fatal(err)
			}
		},
		func() {
			if err := os.Rename(s.Mail+".away", s.Mail); err != nil {
				t.Fatal(err)
			}
		})
}

// A user may have one connection, which is lost, in a mailbox in which mod-sequences were never used: which messages the client counts is
// found without a second connection beside the session's.
func TestASessionOutlivesALossAtItsUsersLimit(t *testing.T) {
	servers.Real(t)
	t.Parallel()
	s := servers.StartDovecot(t, servers.DovecotOptions{Extra: "\nmail_max_userip_connections = 1\n"})
	p := startProxy(t, s)
	c := imaptest.Dial(t, p.addr)
	c.Login(s.User(1), servers.Password)
	c.MustOK("SELECT INBOX")
	for range 3 {
		ends(t, s, "imap", syscall.SIGKILL)
		c.MustOK("NOOP")
	}
}

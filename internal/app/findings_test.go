package app

import (
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// The proxy finds out by a login that fails whether a backend honours master logins. After it, Dovecot lets
// the proxy's address wait up to 15 s, and so each user who logs in at that time. A reload that changes
// nothing about master logins doesn't ask again.
func TestAReloadDoesNotAskBackendsAgainAboutMasterLogins(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	var failed atomic.Int32
	backend := imaptest.NewBackend(t, imaptest.Dialogue{Check: func(_ *imaptest.BackendConn, l imaptest.Login) string {
		switch {
		case l.Authzid != "" && strings.HasPrefix(l.Password, "master"):
			return ""
		default: // the master for their own mailbox
			failed.Add(1)
			return "NO [AUTHENTICATIONFAILED] no"
		}
	}}.Serve)
	dir := t.TempDir()
	path, users, password := filepath.Join(dir, "config.hcl"), filepath.Join(dir, "users.passwd"), filepath.Join(dir, "master.password")
	write(t, users, "ann:{PLAIN}secret\n")
	write(t, password, "master1")
	text := settings(backend.Addr) + `
auth "passwd_file" {
  path = "` + users + `"
}
backend_login {
  mode          = "master"
  username      = "proxy"
  password_file = "` + password + `"
}
park {
  warm_for = "0s"
}
`
	write(t, path, text)
	a := open(t, Options{File: path})
	running := task.Start(a.Run)
	<-a.Ready()
	login := func(when string, want int32) {
		t.Helper()
		c := imaptest.Dial(t, a.Addrs()["plain"])
		c.Login("ann", "secret")
		c.MustOK("LOGOUT")
		if n := failed.Load(); n != want {
			t.Errorf("%s: %d logins have failed at the backend, want %d", when, n, want)
		}
	}
	reload := func() {
		t.Helper()
		if err := a.Reload(t.Context()); err != nil {
			t.Error(err)
		}
	}
	login("at first", 1)
	reload()
	login("after a reload without a change", 1)
	write(t, path, text+"limits {\n  per_user = 9\n}\n")
	reload()
	login("after a reload with another limit", 1)
	write(t, password, "master2")
	reload()
	login("with another password", 2)
	end(t, a, running)
}

//go:build parking

package parking

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A passwords is a Dovecot one of whose users can change his password.
type passwords struct {
	*servers.Server
	file string
	mail string
}

const changing = "changing"

func dovecotWithPasswords(t *testing.T) *passwords {
	t.Helper()
	servers.Real(t)
	p := &passwords{file: filepath.Join(servers.Folder(t), "users"), mail: servers.DovecotMail(t)}
	p.set(t, "first-1")
	p.Server = servers.StartDovecot(t, servers.DovecotOptions{Mail: p.mail, Extra: fmt.Sprintf(`
auth_cache_size = 0
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%%u %[1]s
}
userdb {
  driver = passwd-file
  args = username_format=%%u %[1]s
}
`, p.file)})
	return p
}

func (p *passwords) set(t *testing.T, password string) {
	t.Helper()
	must(t, os.WriteFile(p.file, fmt.Appendf(nil, "%s:%s:5000:5000::%s/%s::\n", changing, password, p.mail, changing), 0o644))
	at := time.Now().Add(time.Duration(len(password)) * time.Second)
	must(t, os.Chtimes(p.file, at, at)) // Dovecot looks at it, in seconds
	if p.Server == nil {
		return
	}
	must(t, eventually(t.Context(), "the new password", func() error { // which it does once a second
		c := imaptest.Dial(t, p.Addr)
		defer c.Close()
		if a := c.TryLogin(changing, password); !a.OK() {
			return errors.New(a.Tagged.Text)
		}
		return nil
	}))
}

func (l *lab) tries(user, password string) imaptest.Answer {
	c := imaptest.Dial(l.t, l.Plain)
	return c.TryLogin(user, password)
}

// Transcript 10: there is a warm connection, and who says a wrong password isn't
// let in by it, nor who says one that was right.
func TestAWarmConnectionLetsNobodyIn(t *testing.T) {
	for name, o := range map[string]labOptions{
		"alone": {warmFor: time.Minute}, "with auth_cache_for": {warmFor: time.Minute, authCache: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			p := dovecotWithPasswords(t)
			l := newLab(t, p.Server, o)
			c := imaptest.Dial(t, l.Plain)
			c.Login(changing, "first-1")
			c.MustOK("SELECT INBOX")
			done := c.Idle()
			l.parked(c)
			if a := l.tries(changing, "wrong"); a.Tagged.Status() != "NO" || !strings.Contains(a.Tagged.Text, "AUTHENTICATIONFAILED") {
				t.Errorf("a wrong password: %s", a)
			}
			p.set(t, "second-22")
			if o.authCache > 0 { // the time for which the old one may still do
				time.Sleep(o.authCache + 100*time.Millisecond)
			}
			if a := l.tries(changing, "first-1"); a.OK() {
				t.Errorf("the old password: %s", a)
			}
			if a := l.tries(changing, "second-22"); !a.OK() {
				t.Errorf("the new password: %s", a)
			}
			master := imaptest.Dial(t, l.Plain)
			if a := master.TryLogin(changing+"*"+servers.MasterUser, "wrong"); a.OK() {
				t.Errorf("a master's wrong password: %s", a)
			}
			if a := master.TryLogin(changing+"*"+servers.MasterUser, servers.MasterPassword); !a.OK() {
				t.Errorf("a master's password: %s", a)
			}
			// The session itself was let in once, and has its warm connection.
			if a := done(); !a.OK() {
				t.Error(a)
			}
			c.MustOK("UID SEARCH ALL")
		})
	}
}

// The password changes while a session is parked, whose connection is gone: it
// isn't let in again.
func TestAPasswordThatChangedEndsAParkedSession(t *testing.T) {
	p := dovecotWithPasswords(t)
	l := newLab(t, p.Server, labOptions{warmFor: -1})
	c := imaptest.Dial(t, l.Plain)
	c.Login(changing, "first-1")
	c.MustOK("SELECT INBOX")
	done := c.Idle()
	l.parked(c)
	p.set(t, "second-22")
	if a := done(); !a.OK() {
		t.Error(a)
	}
	c.Write("x UID SEARCH ALL")
	if r := c.Read(); r.Status() != "BYE" || !strings.Contains(r.Text, "password") {
		t.Errorf("want BYE with a reason, got %s", r)
	}
	c.ExpectEOF()
	l.ended("credentials")
}

// A successor that has the mailbox as it was before the last mails: the same
// UIDVALIDITY, a lower UIDNEXT. A client that were told its UIDs would take new
// mail for old.
func TestASuccessorWithALowerUIDNextEndsTheSession(t *testing.T) {
	p := dovecotWithPasswords(t)
	for _, when := range []string{"in IDLE", "at a command"} {
		t.Run(when, func(t *testing.T) {
			l := newLab(t, p.Server, labOptions{warmFor: -1})
			user := newUser()
			d := l.writer(user, "INBOX", 3)
			d.MustOK("LOGOUT")
			home, backup := filepath.Join(p.mail, user), filepath.Join(t.TempDir(), "backup")
			shell(t, "cp", "-a", home, backup)
			d.Client = l.direct(user)
			d.append(2)
			d.MustOK("LOGOUT")
			w := l.watch(user, "INBOX", d.truth)
			w.idle()
			l.parked(w.Client)
			if when == "at a command" {
				w.done()
			}
			l.down(true)
			shell(t, "rm", "-rf", home)
			shell(t, "cp", "-a", backup, home)
			l.down(false)
			if when == "at a command" {
				w.Write("x UID FETCH 1:* (FLAGS)")
			}
			w.byed()
			l.ended("not_same")
		})
	}
}

func shell(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

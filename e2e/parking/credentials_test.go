package parking

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

func (l *lab) tries(user, password string) imaptest.Answer {
	l.t.Helper()
	return imaptest.Dial(l.t, l.Plain).TryLogin(user, password)
}

// Transcript 10: there is a warm connection, and who says a wrong password isn't
// let in by it, nor who says one that was right.
func aWarmConnectionLetsNobodyIn(t *testing.T, s *site) {
	for name, o := range map[string]labOptions{
		"alone": {warmFor: time.Minute}, "with auth_cache_for": {warmFor: time.Minute, authCache: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, o)
			user := l.newUser()
			c := l.login(user)
			c.MustOK("SELECT INBOX")
			c.Write("i IDLE")
			c.Expect("+{*}")
			l.parked(c)
			if a := l.tries(user, "wrong"); a.Tagged.Status() != "NO" {
				t.Errorf("a wrong password: %s", a)
			}
			s.SetPassword(t, user, "second-22")
			if o.authCache > 0 { // the time for which the old one may still do
				time.Sleep(o.authCache + 100*time.Millisecond)
			}
			if a := l.tries(user, servers.Password); a.Tagged.Status() != "NO" {
				t.Errorf("the old password: %s", a)
			}
			if a := l.tries(user, "second-22"); !a.OK() {
				t.Errorf("the new password: %s", a)
			}
			l.triesMaster(user)
			// The proxy has heard that the session's own password isn't taken any more.
			if r := c.Read(); r.Status() != "BYE" || !strings.Contains(r.Text, "password") {
				t.Errorf("want BYE with a reason, got %s", r)
			}
			c.ExpectEOF()
		})
	}
}

// triesMaster logs in by way of the master: user*master where Dovecot takes it, an
// authorization id where that is Cyrus's way.
func (l *lab) triesMaster(user string) {
	l.t.Helper()
	if l.server.Kind != "dovecot" {
		for password, ok := range map[string]bool{"wrong": false, servers.MasterPassword: true} {
			if a := imaptest.Dial(l.t, l.server.Addr).Plain(user, servers.MasterUser, password); a.OK() != ok {
				l.t.Errorf("a master with %q: %s", password, a)
			}
			if a := imaptest.Dial(l.t, l.Plain).Plain(user, servers.MasterUser, password); a.OK() && !ok {
				l.t.Errorf("a master with %q: %s", password, a)
			}
		}
		return
	}
	if a := l.tries(user+"*"+servers.MasterUser, "wrong"); a.OK() {
		l.t.Errorf("a master's wrong password: %s", a)
	}
	if a := l.tries(user+"*"+servers.MasterUser, servers.MasterPassword); !a.OK() {
		l.t.Errorf("a master's password: %s", a)
	}
}

// The password changes while a session is parked, whose connection is gone: it
// isn't let in again.
func aPasswordThatChangedEndsAParkedSession(t *testing.T, s *site) {
	l := newLab(t, s, labOptions{warmFor: -1})
	user := l.newUser()
	c := l.login(user)
	c.MustOK("SELECT INBOX")
	done := c.Idle()
	l.parked(c)
	s.SetPassword(t, user, "second-22")
	if a := done(); !a.OK() {
		t.Error(a)
	}
	expectByeForPassword(t, c)
	l.ended("credentials")
}

func expectByeForPassword(t *testing.T, c *imaptest.Client) {
	t.Helper()
	c.Write("x UID SEARCH ALL")
	if r := c.Read(); r.Status() != "BYE" || !strings.Contains(r.Text, "password") {
		t.Errorf("want BYE with a reason, got %s", r)
	}
	c.ExpectEOF()
}

// A successor that has the mailbox as it was before the last mails: the same
// UIDVALIDITY, a lower UIDNEXT. A client that were told its UIDs would take new
// mail for old.
func aSuccessorWithALowerUIDNextEndsTheSession(t *testing.T, s *site) {
	for _, when := range []string{"in IDLE", "at a command"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, labOptions{warmFor: -1})
			user := l.newUser()
			d := l.writer(user, "INBOX", 3)
			d.MustOK("LOGOUT")
			home, backup := s.home(t, user), filepath.Join(t.TempDir(), "backup")
			shell(t, "cp", "-a", home, backup)
			d.Client = l.direct(user)
			d.Append(2)
			d.MustOK("LOGOUT")
			w := l.watch(user, "INBOX", d.Truth)
			w.BeginIdle()
			l.parked(w.Client)
			if when == "at a command" {
				w.EndIdle()
			}
			l.Down(true)
			shell(t, "rm", "-rf", home)
			shell(t, "cp", "-a", backup, home)
			l.Down(false)
			if when == "at a command" {
				w.Write("x UID FETCH 1:* (FLAGS)")
			}
			w.ExpectBye()
			l.ended("not_same")
		})
	}
}

// home is the folder of a user's INBOX.
func (s *site) home(t *testing.T, user string) string {
	t.Helper()
	if s.Kind == "dovecot" {
		return filepath.Join(s.Mail, user)
	}
	found := ""
	must(t, filepath.WalkDir(s.Mail, func(path string, _ fs.DirEntry, _ error) error {
		if filepath.Base(path) != "cyrus.header" {
			return nil // others' folders come and go
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), user) {
			found = filepath.Dir(path)
		}
		return nil
	}))
	if found == "" {
		t.Fatalf("no INBOX of %s in %s", user, s.Mail)
	}
	return found
}

func shell(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

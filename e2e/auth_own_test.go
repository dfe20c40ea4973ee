package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A passwd-file can't hang. If it can't be read, its users stay, and the log says so; if it is replaced, the new one counts.
func TestAuthPasswdFile(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	file := filepath.Join(servers.Folder(t), "users.passwd")
	users := servers.User(1) + ":" + bcryptOfRight + "\n" + servers.PasswdLine(servers.User(2), wideA) + servers.PasswdLine(servers.User(3), lockedPassword, "nologin") +
		servers.User(4) + ":*\n" + "#" + servers.PasswdLine("commented", rightPassword)
	writeFile(t, file, users)
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Master: true, PasswdFile: file})
	p.sourceTable(t, "passwd_file", "unknown_user", "#commented", "commented", servers.User(1)+":{PLAIN}x", servers.User(1)+":"+bcryptOfRight, "::::::", `\\`+servers.User(1))
	p.cell(t, "passwd_file", "PLAIN", cell{"no password", servers.User(4), "*", "AUTHENTICATIONFAILED", "account_disabled"}, mechanisms["PLAIN"])

	stays := func(what, says string) {
		t.Helper()
		p.eventually(t, "aware of a file that is "+what, func() error {
			if !strings.Contains(p.Output(), says) {
				return fmt.Errorf("the log has no %q", says)
			}
			return nil
		})
		for mechanism, login := range mechanisms {
			p.cell(t, "passwd_file", mechanism, cell{what, servers.User(1), rightPassword, "", ""}, login)
			p.cell(t, "passwd_file", mechanism, cell{what + ", wrong", servers.User(1), wrongPassword, "AUTHENTICATIONFAILED", "bad_password"}, login)
		}
	}
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	stays("down", "no such file")
	writeFile(t, file+".new", servers.User(1)+":{NONE}x\n")
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	stays("bad", filepath.Base(file)+":1")
	if out, well := p.check(); well || !strings.Contains(out, filepath.Base(file)+":1") {
		t.Errorf("imapproxy check:\n%s", out)
	}
	writeFile(t, file+".new", strings.Replace(users, servers.User(2)+":", "second:", 1))
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	p.eventually(t, "aware of the new file", func() error {
		c := imaptest.Dial(t, p.Plain)
		defer c.Close()
		if a := c.Plain("", servers.User(2), wideA); a.OK() {
			return errors.New("the user who is gone is let in")
		}
		return nil
	})
	p.cell(t, "passwd_file", "PLAIN", cell{"gone", servers.User(2), wideA, "AUTHENTICATIONFAILED", "unknown_user"}, mechanisms["PLAIN"])
	p.toldNoSecrets(t, bcryptOfRight[20:])
}

// The backend itself checks passwords: it doesn't say why it refuses one.
func TestAuthBackend(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	locked := filepath.Join(servers.Folder(t), "locked")
	publicFile(t, locked, servers.PasswdLine(servers.User(3), lockedPassword, "nologin=y", "reason=pw-Reason"))
	extra := "passdb {\n  driver = passwd-file\n  args = scheme=PLAIN username_format=%u " + locked + "\n}\n"
	if servers.DovecotRelease(t) != "2.3" {
		extra = "passdb locked {\n  driver = passwd-file\n  passwd_file_path = " + locked + "\n  default_password_scheme = PLAIN\n}\n"
	}
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{Extra: extra})
	dovecot.SetPassword(t, servers.User(1), rightPassword)
	dovecot.SetPassword(t, servers.User(2), wideA)
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Hasty: true, Further: "park {\n  enabled = false\n  auth_cache_for = \"0s\"\n}\n"})
	p.sourceTable(t, "backend", "backend_refused", "alice'--", "%u", "x\\\"y", "a*"+servers.User(1))
	p.hangs(t, "backend", dovecot.Process)
	dovecot.Process.Stop()
	p.unavailable(t, "backend", "down")
	dovecot.StartAgain(t)
	p.comesBack(t, "restarted")
	p.toldNoSecrets(t)
}

package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// scramKeys has a real program make the keys of a password.
func scramKeys(t *testing.T, mechanism, password string, program ...string) string {
	t.Helper()
	out := client(t, t.TempDir(), program[0], append(program[1:], password)...)
	out = strings.TrimSpace(out)
	if !strings.HasPrefix(out, "{"+mechanism+"}") {
		t.Fatalf("%s writes %q", program[0], out)
	}
	return out
}

// bySCRAM logs in with gsasl, over STARTTLS, and says what the proxy and gsasl wrote.
func bySCRAM(t *testing.T, p *runningProxy, mechanism, user, password string) (out string, in bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "gsasl", "--imap", "--verbose", "--no-cb", "--mechanism", mechanism, "--authentication-id", user, "--password", password,
		"--x509-ca-file", p.Cert.CertFile, "localhost", port(p.StartTLS))
	if strings.HasSuffix(mechanism, "-PLUS") {
		cmd.Args = append(cmd.Args[:3], cmd.Args[4:]...) // with the channel binding
	}
	cmd.Stdin = bytes.NewReader(nil)
	b, err := cmd.CombinedOutput()
	return string(b), err == nil
}

// Users whose keys are in a passwd-file, a database and a directory log in by SCRAM with gsasl; the keys are those that
// Dovecot and gsasl make.
func TestAuthSCRAM(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	folder := servers.Folder(t)
	dovecots := []string{"doveadm", "pw", "-s", "SCRAM-SHA-256", "-p"}
	ofDovecot := scramKeys(t, "SCRAM-SHA-256", rightPassword, dovecots...)
	ofDovecot1 := scramKeys(t, "SCRAM-SHA-1", rightPassword, "doveadm", "pw", "-s", "SCRAM-SHA-1", "-p")
	ofGsasl := scramKeys(t, "SCRAM-SHA-256", rightPassword, "gsasl", "--mkpasswd", "--mechanism", "SCRAM-SHA-256", "--iteration-count", "4096", "--password")

	file := filepath.Join(folder, "users")
	writeFile(t, file, servers.User(1)+":"+ofDovecot+"\n"+servers.User(3)+":"+ofDovecot+"::::::nologin\n"+servers.User(5)+":"+ofDovecot1+"\n"+servers.User(6)+":"+bcryptOfRight+"\n")
	users := filepath.Join(folder, "users.db")
	db, err := sql.Open("sqlite", users)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE users (name TEXT, password TEXT, allowed BOOLEAN); INSERT INTO users VALUES (?, ?, TRUE), (?, ?, FALSE)",
		servers.User(2), ofGsasl, "gone", ofGsasl); err != nil {
		t.Fatal(err)
	}
	directory := servers.StartSlapd(t, person(servers.User(4), "of-the-bind", "employeeType: mail\ndescription: "+ofDovecot1+"\ndescription: "+ofGsasl+"\n")+
		person("left", "of-the-bind", "employeeType: gone\ndescription: "+ofGsasl+"\n"))
	bind, secret := filepath.Join(folder, "bind.password"), filepath.Join(folder, "scram.secret")
	writeFile(t, bind, servers.DirectoryPassword+"\n")
	writeFile(t, secret, "of-the-proxies-0123456789abcdefghij\n")
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Master: true, Further: fmt.Sprintf(`
users {
  scram_secret_file = %q
}
auth "passwd_file" {
  path  = %q
  scram = ["SCRAM-SHA-256", "SCRAM-SHA-1"]
}
auth "sql" {
  driver = "sqlite"
  dsn    = %q
  query  = "SELECT password, allowed FROM users WHERE name = %%u"
  scram  = ["SCRAM-SHA-256"]
}
auth "ldap" {
  url             = %q
  ca_file         = %q
  base            = "ou=people,dc=example,dc=org"
  filter          = "(uid=%%u)"
  allow           = "(employeeType=mail)"
  bind_dn         = %q
  password_file   = %q
  scram_attribute = "description"
  scram           = ["SCRAM-SHA-256", "SCRAM-SHA-1"]
  timeout         = "1s"
}
`, secret, file, users, directory.TLSURL, directory.Cert.CertFile, servers.DirectoryReader, bind)})

	for _, c := range []struct{ user, mechanisms, source string }{
		{servers.User(1), "SCRAM-SHA-256 SCRAM-SHA-256-PLUS", "passwd_file"},
		{servers.User(2), "SCRAM-SHA-256 SCRAM-SHA-256-PLUS", "sql"},
		{servers.User(4), "SCRAM-SHA-256 SCRAM-SHA-256-PLUS SCRAM-SHA-1 SCRAM-SHA-1-PLUS", "ldap"},
		{servers.User(5), "SCRAM-SHA-1 SCRAM-SHA-1-PLUS", "passwd_file"},
	} {
		for _, mechanism := range strings.Fields(c.mechanisms) {
			before := p.counted(t, c.source, mechanism, "ok")
			if out, in := bySCRAM(t, p, mechanism, c.user, rightPassword); !in {
				t.Errorf("%s, %s of %s:\n%s", mechanism, c.user, c.source, out)
			} else if p.counted(t, c.source, mechanism, "ok") != before+1 {
				t.Errorf("%s, %s of %s isn't counted:\n%s", mechanism, c.user, c.source, out)
			}
		}
	}
	for _, c := range []struct{ user, password, reason string }{
		{servers.User(1), wrongPassword, "bad_password"}, {servers.User(2), wrongPassword, "bad_password"}, {servers.User(4), wrongPassword, "bad_password"},
		{servers.User(3), rightPassword, "account_disabled"}, {"gone", rightPassword, "account_disabled"}, {"left", rightPassword, "account_disabled"},
		{"nobody", rightPassword, "unknown_user"}, {servers.User(6), rightPassword, "no_scram_keys"},
	} {
		before := p.failures(t, c.reason)
		if out, in := bySCRAM(t, p, "SCRAM-SHA-256-PLUS", c.user, c.password); in || !strings.Contains(out, "AUTHENTICATIONFAILED") {
			t.Errorf("%s with %s:\n%s", c.user, c.reason, out)
		} else if p.failures(t, c.reason) != before+1 {
			t.Errorf("%s isn't counted for %s:\n%s", c.reason, c.user, p.Output())
		}
	}
	// The same entries, by a password that is sent.
	for mechanism, login := range mechanisms {
		for _, c := range []cell{
			{"right", servers.User(1), rightPassword, "", ""}, {"wrong", servers.User(1), wrongPassword, "AUTHENTICATIONFAILED", "bad_password"},
			{"SHA-1", servers.User(5), rightPassword, "", ""}, {"SHA-1, wrong", servers.User(5), wrongPassword, "AUTHENTICATIONFAILED", "bad_password"},
		} {
			p.cell(t, "passwd_file", mechanism, c, login)
		}
		p.cell(t, "sql", mechanism, cell{"right", servers.User(2), rightPassword, "", ""}, login)
	}
	out, well := p.check("--user", servers.User(1))
	if !well || !strings.Contains(out, "passwd_file: 1 user without keys for SCRAM") {
		t.Errorf("imapproxy check:\n%s", out)
	}
	// A source that is away.
	directory.Stop()
	if out, in := bySCRAM(t, p, "SCRAM-SHA-256", servers.User(4), rightPassword); in || !strings.Contains(out, "UNAVAILABLE") {
		t.Errorf("with the directory down:\n%s", out)
	}
	if a := imaptest.Dial(t, p.Plain).TryLogin(servers.User(1), rightPassword); !a.OK() {
		t.Errorf("a user of the file meanwhile: %s", a.Tagged)
	}
	p.toldNoSecrets(t, ofDovecot[40:], ofGsasl[40:], "of-the-proxies-0123456789abcdefghij", servers.DirectoryPassword)
}

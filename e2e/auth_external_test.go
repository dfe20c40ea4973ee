package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A userCert is a certificate in the files that programs read.
type userCert struct {
	tls.Certificate
	CertFile, KeyFile string
}

func newUserCert(t *testing.T, ca *imaptest.CA, name string, change ...func(*x509.Certificate)) userCert {
	t.Helper()
	named := func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: name} }
	c := userCert{Certificate: ca.Issue("", append([]func(*x509.Certificate){named}, change...)...)}
	dir := servers.Folder(t)
	c.CertFile, c.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, key := imaptest.PEM(t, c.Certificate)
	writeFile(t, c.CertFile, string(cert))
	writeFile(t, c.KeyFile, string(key))
	return c
}

// run runs a program, and says what it wrote and whether it was content.
func run(t *testing.T, stdin string, name string, args ...string) (out string, well bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = bytes.NewReader([]byte(stdin))
	b, err := cmd.CombinedOutput()
	return string(b), err == nil
}

// certListener is a listener that takes users' certificates of the authority in caFile, with the names in the field that name says.
func certListener(address string, cert servers.Certificate, caFile, name string) string {
	return fmt.Sprintf(`
listener "certs" {
  address = %q
  certificate {
    cert_file = %q
    key_file  = %q
  }
  client_certificates {
    ca_file = %q
    name    = %q
  }
}
`, address, cert.CertFile, cert.KeyFile, caFile, name)
}

// Users log in by certificates with curl and gsasl, over TLS and STARTTLS, at a Dovecot that knows none of their passwords.
func TestAuthEXTERNAL(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	folder := servers.Folder(t)
	ca, other := imaptest.NewCA(t, "users"), imaptest.NewCA(t, "users")
	good, locked, unknown := newUserCert(t, ca, servers.User(1)), newUserCert(t, ca, servers.User(3)), newUserCert(t, ca, "nobody")
	revoked, foreign := newUserCert(t, ca, servers.User(1)), newUserCert(t, other, servers.User(1))
	expired := newUserCert(t, ca, servers.User(1), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	nameless := newUserCert(t, ca, "", func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{servers.User(1)}} })
	caFile, crlFile, users := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "crl.pem"), filepath.Join(folder, "users")
	writeFile(t, caFile, string(ca.CertPEM))
	writeFile(t, crlFile, string(ca.Revocations([]*x509.Certificate{revoked.Leaf})))
	entries := servers.User(1) + ":" + bcryptOfRight + "\n"
	writeFile(t, users, entries+servers.User(3)+":"+bcryptOfRight+"::::::nologin\n")
	cert := servers.NewCertificate(t)
	implicit, _ := servers.FreeAddr(t)
	startTLS, _ := servers.FreeAddr(t)
	database, bind := filepath.Join(folder, "users.db"), filepath.Join(folder, "bind.password")
	db, err := sql.Open("sqlite", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE users (name TEXT, password TEXT, allowed BOOLEAN); INSERT INTO users VALUES (?, ?, TRUE), ('gone', ?, FALSE)", servers.User(2), bcryptOfRight, bcryptOfRight); err != nil {
		t.Fatal(err)
	}
	directory := servers.StartSlapd(t, person(servers.User(4), "of-the-bind", "employeeType: mail\n")+person("left", "of-the-bind", "employeeType: gone\n"))
	writeFile(t, bind, servers.DirectoryPassword+"\n")
	further := fmt.Sprintf(`
auth "passwd_file" {
  path = %q
}
auth "sql" {
  driver = "sqlite"
  dsn    = %q
  query  = "SELECT password, allowed FROM users WHERE name = %%u"
}
auth "ldap" {
  url           = %q
  ca_file       = %q
  base          = "ou=people,dc=example,dc=org"
  filter        = "(uid=%%u)"
  allow         = "(employeeType=mail)"
  bind_dn       = %q
  password_file = %q
  timeout       = "1s"
}
`, users, database, directory.TLSURL, directory.Cert.CertFile, servers.DirectoryReader, bind)
	for mode, address := range map[string]string{"implicit": implicit, "starttls": startTLS} {
		further += fmt.Sprintf(`
listener "certs-%s" {
  address = %q
  tls     = %q
  certificate {
    cert_file = %q
    key_file  = %q
  }
  client_certificates {
    ca_file  = %q
    crl_file = %q
    name     = "common_name"
  }
}
`, mode, address, mode, cert.CertFile, cert.KeyFile, caFile, crlFile)
	}
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Master: true, Further: further})
	if out, well := p.check("--user", servers.User(1)); !well || !strings.Contains(out, "clients may log in by certificates of 1 authority, with the name in common_name") {
		t.Errorf("imapproxy check:\n%s", out)
	}

	byCurl := func(c userCert) (string, bool) {
		return run(t, "", "curl", "--silent", "--show-error", "--verbose", "--max-time", "50", "--cacert", cert.CertFile, "--cert", c.CertFile, "--key", c.KeyFile,
			"--login-options", "AUTH=EXTERNAL", "--user", servers.User(1)+":", "imaps://localhost:"+port(implicit)+"/")
	}
	byGsasl := func(c userCert, authzid ...string) (string, bool) {
		args := []string{"--imap", "--verbose", "--mechanism", "EXTERNAL", "--no-cb", "--x509-ca-file", cert.CertFile, "--x509-cert-file", c.CertFile, "--x509-key-file", c.KeyFile}
		for _, a := range authzid {
			args = append(args, "--authorization-id", a)
		}
		return run(t, "", "gsasl", append(args, "localhost", port(startTLS))...)
	}
	before := p.counted(t, "passwd_file", "EXTERNAL", "ok")
	if out, in := byCurl(good); !in || !strings.Contains(out, "INBOX") {
		t.Errorf("curl:\n%s\n%s", out, p.Output())
	}
	if out, in := byGsasl(good, servers.User(1)); !in {
		t.Errorf("gsasl:\n%s\n%s", out, p.Output())
	}
	if n := p.counted(t, "passwd_file", "EXTERNAL", "ok"); n != before+2 {
		t.Errorf("%v logins are counted", n-before)
	}
	for user, source := range map[string]string{servers.User(2): "sql", servers.User(4): "ldap"} {
		n := p.counted(t, source, "EXTERNAL", "ok")
		if out, in := byGsasl(newUserCert(t, ca, user), ""); !in || p.counted(t, source, "EXTERNAL", "ok") != n+1 {
			t.Errorf("%s:\n%s", source, out)
		}
	}
	for _, c := range []struct {
		what         string
		cert         userCert
		code, reason string
	}{
		{"locked", locked, "AUTHENTICATIONFAILED", "account_disabled"}, {"unknown", unknown, "AUTHENTICATIONFAILED", "unknown_user"},
		{"locked in the database", newUserCert(t, ca, "gone"), "AUTHENTICATIONFAILED", "account_disabled"}, {"not allowed by the directory", newUserCert(t, ca, "left"), "AUTHENTICATIONFAILED", "account_disabled"},
		{"injection", newUserCert(t, ca, "x)(uid=user004"), "AUTHENTICATIONFAILED", "unknown_user"},
		{"injection", newUserCert(t, ca, "x'/**/OR/**/1=1--"), "AUTHENTICATIONFAILED", "bad_name"},
	} {
		n := p.failures(t, c.reason)
		if out, in := byGsasl(c.cert, ""); in || !strings.Contains(out, c.code) || p.failures(t, c.reason) != n+1 {
			t.Errorf("%s:\n%s", c.what, out)
		}
	}
	if out, in := byGsasl(good, servers.User(2)); in || !strings.Contains(out, "AUTHORIZATIONFAILED") {
		t.Errorf("as another user:\n%s", out)
	}
	// openssl sends a certificate whatever the server asks for, and what it is told to.
	for _, c := range []struct {
		what string
		cert *userCert
		says string
	}{
		{"revoked", &revoked, "a1 NO [AUTHENTICATIONFAILED]"}, {"another authority's", &foreign, "a1 NO [AUTHENTICATIONFAILED]"},
		{"expired", &expired, "a1 NO [AUTHENTICATIONFAILED]"}, {"without a name", &nameless, "a1 NO [AUTHENTICATIONFAILED]"},
		{"none", nil, "a1 NO [CANNOT]"}, {"good", &good, "a1 OK"},
	} {
		args := []string{"s_client", "-connect", implicit, "-CAfile", cert.CertFile, "-quiet", "-ign_eof"}
		if c.cert != nil {
			args = append(args, "-cert", c.cert.CertFile, "-key", c.cert.KeyFile)
		}
		out, _ := run(t, "a1 AUTHENTICATE EXTERNAL =\r\na2 LOGOUT\r\n", "openssl", args...)
		if !strings.Contains(out, c.says) || strings.Contains(out, "* OK [CAPABILITY") && strings.Contains(strings.SplitAfter(out, "]")[0], "AUTH=EXTERNAL") != (c.what == "good") {
			t.Errorf("openssl, %s:\n%s", c.what, out)
		}
	}

	// What a client may send in place of a name.
	config := cert.Client.Clone()
	config.Certificates = []tls.Certificate{good.Certificate}
	for what, c := range map[string]struct{ sent, says string }{
		"NUL":       {"YQBi", "NO [AUTHENTICATIONFAILED]"},
		"8-bit":     {"//79", "NO [AUTHENTICATIONFAILED]"},
		"injection": {"dXNlcjENCmEyIExPR09VVA==", "NO [AUTHORIZATIONFAILED]"},
		"no base64": {"!!!", "BAD "},
	} {
		client := imaptest.DialTLS(t, implicit, config)
		if a := client.Cmd("AUTHENTICATE EXTERNAL %s", c.sent); !strings.Contains(a.Tagged.Text, c.says) {
			t.Errorf("%s: %s", what, a.Tagged)
		}
		client.MustOK("AUTHENTICATE EXTERNAL =")
	}
	long := imaptest.DialTLS(t, implicit, config)
	_ = long.Send("a1 AUTHENTICATE EXTERNAL " + strings.Repeat("YWFh", 1<<18)) // 1 MB
	if said := long.ExpectEOF(); !slices.ContainsFunc(said, func(r imaptest.Response) bool { return strings.Contains(r.Text, "BYE [TOOBIG]") }) {
		t.Errorf("1 MB: %v", said)
	}

	// Who is revoked or locked is out, without a signal.
	first, second := imaptest.DialTLS(t, implicit, config), imaptest.DialTLS(t, implicit, config)
	first.MustOK("AUTHENTICATE EXTERNAL =")
	first.MustOK("SELECT INBOX")
	writeFile(t, crlFile, string(ca.Revocations([]*x509.Certificate{revoked.Leaf, good.Leaf})))
	ended := first.ExpectEOF()
	if len(ended) == 0 || ended[0].Status() != "BYE" {
		t.Errorf("revoked: %v", ended)
	}
	if a := second.Cmd("AUTHENTICATE EXTERNAL ="); a.Tagged.Code() != "AUTHENTICATIONFAILED" {
		t.Errorf("revoked: %s", a.Tagged)
	}
	writeFile(t, crlFile, string(ca.Revocations(nil)))
	p.eventually(t, "a login by the certificate", func() error {
		if a := imaptest.DialTLS(t, implicit, config).Cmd("AUTHENTICATE EXTERNAL ="); !a.OK() {
			return fmt.Errorf("%s", a.Tagged)
		}
		return nil
	})
	third := imaptest.DialTLS(t, implicit, config)
	third.MustOK("AUTHENTICATE EXTERNAL =")
	writeFile(t, users, servers.User(1)+":"+bcryptOfRight+"::::::nologin\n")
	if ended := third.ExpectEOF(); len(ended) == 0 || ended[0].Status() != "BYE" {
		t.Errorf("locked: %v", ended)
	}
	// A list that is over is no list.
	writeFile(t, crlFile, string(ca.Revocations(nil, func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	})))
	if out, well := p.check(); well || !strings.Contains(out, "the revocation list of \"CN=users\" has ended") {
		t.Errorf("imapproxy check with an old list:\n%s", out)
	}
	writeFile(t, crlFile, string(ca.Revocations(nil)))
	ofDirectory := newUserCert(t, ca, servers.User(4))
	says := func(what, says string) {
		t.Helper()
		p.eventually(t, what, func() error {
			if out, in := byGsasl(ofDirectory, ""); in != (says == "") || !strings.Contains(out, says) {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
	says("the list that isn't over", "")
	directory.Freeze()
	says("the directory hangs", "UNAVAILABLE")
	directory.Thaw()
	says("the directory goes on", "")
	directory.Stop()
	says("the directory is down", "UNAVAILABLE")
	directory.Start()
	says("the directory is up again", "")
	p.toldNoSecrets(t, servers.DirectoryPassword)
}

package e2e

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// openSSL is an authority, and certificates of users by it, as openssl makes them.
type openSSL struct{ dir, CA string }

func newOpenSSL(t *testing.T) openSSL {
	t.Helper()
	o := openSSL{dir: servers.Folder(t)}
	o.CA = filepath.Join(o.dir, "ca.pem")
	o.run(t, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", filepath.Join(o.dir, "ca.key"), "-out", o.CA, "-days", "30", "-subj", "/CN=users")
	return o
}

func (o openSSL) run(t *testing.T, args ...string) {
	t.Helper()
	if out, well := run(t, "", "openssl", args...); !well {
		t.Fatalf("openssl %s:\n%s", args[0], out)
	}
}

// issue makes a certificate whose only name is the subject alternative name, which is critical then (RFC 5280 §4.2.1.6).
func (o openSSL) issue(t *testing.T, san string) tls.Certificate {
	t.Helper()
	file := func(name string) string { return filepath.Join(o.dir, name) }
	writeFile(t, file("san"), "subjectAltName = critical,"+san+"\nextendedKeyUsage = clientAuth\n")
	o.run(t, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", file("key"), "-out", file("csr"), "-subj", "/")
	o.run(t, "x509", "-req", "-in", file("csr"), "-CA", o.CA, "-CAkey", file("ca.key"), "-CAcreateserial", "-extfile", file("san"), "-days", "30", "-out", file("cert"))
	c, err := tls.LoadX509KeyPair(file("cert"), file("key"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A directory that answers late, but in time, decides about users whose certificates have a user principal name.
func TestASlowSourceDecidesAboutACertificate(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	directory := servers.StartSlapd(t, person(servers.User(1), "of-the-bind", "employeeType: mail\n")+person("left", "of-the-bind", "employeeType: gone\n"))
	h := hold(t, strings.Trim(strings.TrimPrefix(directory.TLSURL, "ldaps:"), "/"), "")
	ca := newOpenSSL(t)
	cert := servers.NewCertificate(t)
	address, _ := servers.FreeAddr(t)
	bind := filepath.Join(servers.Folder(t), "bind.password")
	writeFile(t, bind, servers.DirectoryPassword+"\n")
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Master: true, Further: fmt.Sprintf(`
auth "ldap" {
  url           = "ldaps://%s"
  ca_file       = %q
  base          = "ou=people,dc=example,dc=org"
  filter        = "(uid=%%n)"
  allow         = "(employeeType=mail)"
  bind_dn       = %q
  password_file = %q
  timeout       = "30s"
  user_attribute = "uid"
}
`, h.Addr, directory.Cert.CertFile, servers.DirectoryReader, bind) + certListener(address, cert, ca.CA, "san_upn")})
	const upn = "otherName:1.3.6.1.4.1.311.20.2.3;UTF8:"
	external := func(c *imaptest.Client, _, _ string) imaptest.Answer { return c.Cmd("AUTHENTICATE EXTERNAL =") }
	for _, c := range []struct{ what, san, code, reason string }{
		{"right", upn + servers.User(1) + "@corp.example", "", ""},
		{"beside an email address", "email:x@example.com," + upn + servers.User(1) + "@corp.example", "", ""},
		{"locked", upn + "left@corp.example", "AUTHENTICATIONFAILED", "account_disabled"},
		{"unknown", upn + "nobody@corp.example", "AUTHENTICATIONFAILED", "unknown_user"},
		{"injection", upn + "*)(uid=" + servers.User(1) + "@corp.example", "AUTHENTICATIONFAILED", "bad_name"}, // users { refuse_separators }
		{"injection", upn + "x)(uid=" + servers.User(1) + "@corp.example", "AUTHENTICATIONFAILED", "unknown_user"},
	} {
		config := cert.Client.Clone()
		config.Certificates = []tls.Certificate{ca.issue(t, c.san)}
		login := external
		if c.reason != "bad_name" { // the directory is asked
			login = h.lets(t, external)
			h.holdOn()
		}
		in, n := p.counted(t, "ldap", "EXTERNAL", "ok"), p.failures(t, c.reason)
		client := imaptest.DialTLS(t, address, config)
		a := login(client, "", "")
		_ = client.Close()
		switch {
		case a.OK() != (c.code == ""), c.code != "" && a.Tagged.Code() != c.code:
			t.Errorf("%s: %s", c.what, a.Tagged)
		case c.code == "" && p.counted(t, "ldap", "EXTERNAL", "ok") != in+1, c.code != "" && p.failures(t, c.reason) != n+1:
			t.Errorf("%s isn't counted", c.what)
		}
	}
	// Names of other kinds aren't taken for it.
	config := cert.Client.Clone()
	config.Certificates = []tls.Certificate{ca.issue(t, "email:"+servers.User(1)+"@corp.example")}
	client := imaptest.DialTLS(t, address, config)
	if a := external(client, "", ""); a.Tagged.Code() != "AUTHENTICATIONFAILED" {
		t.Errorf("an email address alone: %s", a.Tagged)
	}
	p.toldNoSecrets(t, servers.DirectoryPassword)
}

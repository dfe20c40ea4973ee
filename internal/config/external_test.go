package config

import (
	"path/filepath"
	"strings"
	"testing"
)

// Settings by which users couldn't log in by a certificate, or could although a source has locked them.
func TestClientCertificatesNeedAMasterAndASourceThatKnows(t *testing.T) {
	dir := t.TempDir()
	cert, _ := certificateFiles(t, dir)
	write(t, filepath.Join(dir, "secret"), "secret\n")
	write(t, filepath.Join(dir, "users"), "")
	const (
		file    = "auth \"passwd_file\" {\n path = \"users\"\n}\n"
		dovecot = "auth \"dovecot\" {\n address = \"/run/dovecot/auth\"\n}\n"
		backend = "auth \"backend\" {}\n"
		http    = "auth \"http\" {\n url = \"http://127.0.0.1:9000/auth\"\n}\n"
		bound   = "auth \"ldap\" {\n url = \"ldaps://ldap.example.org\"\n user_dn = \"uid=%n,dc=example\"\n}\n"
		search  = "auth \"ldap\" {\n url = \"ldaps://ldap.example.org\"\n base = \"dc=example\"\n filter = \"(uid=%n)\"\n"
		master  = "backend_login {\n mode = \"master\"\n username = \"proxy\"\n password_file = \"secret\"\n}\n"
	)
	for name, c := range map[string]struct{ tls, ca, auth, login, want string }{
		"file":                  {auth: file, login: master},
		"http, then backend":    {auth: http + backend, login: master},
		"search with allow":     {auth: search + " allow = \"(mail=*)\"\n}\n", login: master},
		"search without allow":  {auth: search + "}\n", login: master, want: "warning: the directory isn't asked for a bind"},
		"no master":             {auth: file, want: "sends no password"},
		"without TLS":           {tls: "none", auth: file, login: master, want: "has no meaning with tls = \"none\""},
		"no authority":          {ca: "secret", auth: file, login: master, want: "holds no certificate"},
		"only one by bind":      {auth: bound, login: master, want: "no source can tell"},
		"only Dovecot":          {auth: dovecot, login: master},
		"Dovecot first":         {auth: dovecot + file, login: master},
		"by bind, then a file":  {auth: bound + file, login: master, want: "auth \"ldap\" before auth \"passwd_file\" can't tell"},
		"a file, then by bind":  {auth: file + bound, login: master},
		"a name that isn't one": {ca: "x\"\n name = \"serial", auth: file, login: master, want: "san_email"},
	} {
		mode, ca := "implicit", cert
		if c.tls != "" {
			mode = c.tls
		}
		if c.ca != "" {
			ca = c.ca
		}
		certificate := " certificate {\n cert_file = \"cert.pem\"\n key_file = \"key.pem\"\n }\n"
		if mode == "none" {
			certificate = " cleartext_from = [\"127.0.0.1\"]\n"
		}
		text := "listener \"imaps\" {\n address = \"127.0.0.1:1993\"\n tls = \"" + mode + "\"\n" + certificate +
			" client_certificates {\n ca_file = \"" + ca + "\"\n }\n}\n" + c.auth + c.login +
			"discovery \"static\" {\n backend \"b1\" {\n address = \"127.0.0.1:11143\"\n }\n}\nrouting {\n storage = \"shared\"\n}\n"
		cfg, warnings, err := Parse(filepath.Join(dir, "t.hcl"), []byte(text))
		said := ""
		if err != nil {
			said = err.Error()
		}
		for _, w := range warnings {
			if strings.Contains(w.What, "client_certificates") {
				said += "warning: " + w.What
			}
		}
		want, warned := strings.CutPrefix(c.want, "warning: ")
		if (said == "") != (c.want == "") || !strings.Contains(said, want) || warned && err != nil {
			t.Errorf("%s: %s\nwant %q", name, said, c.want)
		}
		if c.want == "" && cfg.Listeners[0].ClientCertificates.Name != "san_email" {
			t.Errorf("%s: the name is %q", name, cfg.Listeners[0].ClientCertificates.Name)
		}
	}
}

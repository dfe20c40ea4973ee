package e2e

import (
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
)

// Sources of one kind are asked in their order: the first that knows a user decides, and one that can't be asked
// leaves it open whether it knows the user. Metrics, the log and check have each by its name.
func TestAuthSeveralSourcesOfOneKind(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	staff := servers.StartSlapd(t, person(servers.User(2), "pw-Staff", ""))
	students := servers.StartSlapd(t, person(servers.User(4), "pw-Student", ""))
	dir := servers.Folder(t)
	for name, text := range map[string]string{
		"first.passwd":  servers.User(1) + ":{PLAIN}" + rightPassword + "\n" + servers.User(3) + ":!\n",
		"last.passwd":   servers.User(2) + ":{PLAIN}pw-Last\n" + servers.User(3) + ":{PLAIN}pw-Last\n" + servers.User(5) + ":{PLAIN}pw-Last\n",
		"bind.password": servers.DirectoryPassword + "\n",
	} {
		writeFile(t, filepath.Join(dir, name), text)
	}
	file := func(name string) string {
		return fmt.Sprintf("auth \"passwd_file\" %q {\n  path = %q\n}\n", name, filepath.Join(dir, name+".passwd"))
	}
	directory := func(name string, s *servers.Slapd) string {
		return fmt.Sprintf("auth \"ldap\" %q {\n  url = %q\n  ca_file = %q\n  timeout = \"1s\"\n  password_file = %q\n%s}\n",
			name, s.TLSURL, s.Cert.CertFile, filepath.Join(dir, "bind.password"), searchAndBind)
	}
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Master: true,
		Further: file("first") + directory("staff", staff) + directory("students", students) + file("last")})
	plain := mechanisms["PLAIN"]
	for _, c := range []struct {
		source string
		cell
	}{
		{"passwd_file.first", cell{"right", servers.User(1), rightPassword, "", ""}},
		{"passwd_file.first", cell{"wrong", servers.User(1), wrongPassword, "AUTHENTICATIONFAILED", "bad_password"}},
		{"passwd_file.first", cell{"locked, not in the last", servers.User(3), "pw-Last", "AUTHENTICATIONFAILED", "account_disabled"}},
		{"ldap.staff", cell{"right", servers.User(2), "pw-Staff", "", ""}},
		{"ldap.staff", cell{"the password that a later source has", servers.User(2), "pw-Last", "AUTHENTICATIONFAILED", "bad_password"}},
		{"ldap.students", cell{"right", servers.User(4), "pw-Student", "", ""}},
		{"passwd_file.last", cell{"right", servers.User(5), "pw-Last", "", ""}},
		{"passwd_file.last", cell{"unknown to all", "nobody", "pw-Last", "AUTHENTICATIONFAILED", "unknown_user"}},
	} {
		p.cell(t, c.source, "PLAIN", c.cell, plain)
	}
	if said := p.Output(); !strings.Contains(said, "source=ldap.students") {
		t.Errorf("the log doesn't say which directory has let the user in:\n%s", said)
	}
	if out, well := p.check("--user", servers.User(4)); !well || !strings.Contains(out, "ok    auth ldap.staff") ||
		!strings.Contains(out, "ok    auth ldap.students") || !strings.Contains(out, "passwd_file.last: 3 users") {
		t.Errorf("imapproxy check:\n%s", out)
	}
	staff.Stop()
	p.cell(t, "passwd_file.first", "PLAIN", cell{"before the one that is down", servers.User(1), rightPassword, "", ""}, plain)
	for _, user := range []string{servers.User(2), servers.User(4), servers.User(5), "nobody"} {
		p.cell(t, "ldap.staff", "PLAIN", cell{"behind the one that is down", user, "pw-Last", "UNAVAILABLE", "unavailable"}, plain)
	}
	if said := p.Output(); !strings.Contains(said, "source=ldap.staff error=") {
		t.Errorf("the log doesn't say which directory is down:\n%s", said)
	}
	if out, well := p.check(); well || !strings.Contains(out, "auth ldap.staff") || !strings.Contains(out, "ok    auth ldap.students") {
		t.Errorf("imapproxy check while one is down:\n%s", out)
	}
	p.toldNoSecrets(t, "pw-Staff", "pw-Student", "pw-Last", servers.DirectoryPassword)
}

// A token that one provider doesn't know is another's, perhaps.
func TestAuthSeveralProvidersOfTokens(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	asked, signs := startProvider(t), startProvider(t)
	dir := servers.Folder(t)
	writeFile(t, filepath.Join(dir, "secret"), providerSecret+"\n")
	ca := func(name string, p *tokenProvider) string {
		path := filepath.Join(dir, name+".pem")
		writeFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})))
		return fmt.Sprintf("  ca_file = %q\n  audience = [\"imap\"]\n  user_claim = \"preferred_username\"\n  timeout = \"1s\"\n", path)
	}
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Master: true, Further: fmt.Sprintf(
		"auth \"oauth\" \"asked\" {\n  introspection_url = %q\n  client_id = \"proxy\"\n  client_secret_file = %q\n  cache_for = \"0s\"\n%s}\nauth \"oauth\" \"signs\" {\n  issuer = %q\n%s}\n",
		asked.URL+"/introspect", filepath.Join(dir, "secret"), ca("asked", asked), signs.URL, ca("signs", signs))})
	ofFirst, ofSecond := asked.token(t, servers.User(1), "imap", time.Hour), signs.token(t, servers.User(2), "imap", time.Hour)
	for mechanism, login := range tokenMechanisms {
		p.cell(t, "oauth.asked", mechanism, cell{"the first's", servers.User(1), ofFirst, "", ""}, login)
		p.cell(t, "oauth.signs", mechanism, cell{"the second's", servers.User(2), ofSecond, "", ""}, login)
		p.cell(t, "oauth.signs", mechanism, cell{"the second's, of another user", servers.User(1), ofSecond, "AUTHENTICATIONFAILED", "bad_token"}, login)
	}
	asked.mu.Lock()
	asked.revoked[ofFirst] = true
	asked.mu.Unlock()
	for mechanism, login := range tokenMechanisms {
		p.cell(t, "oauth.signs", mechanism, cell{"revoked", servers.User(1), ofFirst, "AUTHENTICATIONFAILED", "bad_token"}, login)
	}
	p.toldNoSecrets(t, ofFirst, ofSecond)
}

package e2e

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// person is a user's entry.
func person(uid, password, more string) string {
	return fmt.Sprintf("dn: uid=%[1]s,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: %[1]s\ncn: %[1]s\nsn: %[1]s\nuserPassword:: %[2]s\n%[3]s\n",
		uid, base64.StdEncoding.EncodeToString([]byte(password)), more)
}

// people are the users of the tests. Who is of another employeeType than mail may not log in.
func people() string {
	return person(servers.User(1), rightPassword, "employeeType: mail\n") + person(servers.User(2), wideA, "employeeType: mail\n") +
		person(servers.User(3), lockedPassword, "employeeType: gone\n") +
		person("alias", rightPassword, "employeeType: mail\ndepartmentNumber: b2\ndisplayName: "+servers.User(4)+"\n") +
		person("twice", rightPassword, "employeeType: mail\nmail: both\n") + person("again", rightPassword, "employeeType: mail\nmail: both\n") +
		"dn: cn=imap,ou=groups,dc=example,dc=org\nobjectClass: groupOfNames\ncn: imap\nmember: uid=" + servers.User(1) + ",ou=people,dc=example,dc=org\n\n"
}

const (
	searchAndBind = "  base = \"ou=people,dc=example,dc=org\"\n  filter = \"(&(objectClass=inetOrgPerson)(|(uid=%u)(mail=%u)))\"\n  bind_dn = \"" + servers.DirectoryReader + "\"\n"
	bindAlone     = "  user_dn = \"uid=%u,ou=people,dc=example,dc=org\"\n"
	attributes    = "  allow = \"(employeeType=mail)\"\n  user_attribute = \"displayName\"\n  placement_attribute = \"departmentNumber\"\n"
)

// ldapProxy is a proxy that asks a directory. Names may have a star, which filters give a meaning.
func ldapProxy(t *testing.T, url, ca, settings string, o proxyOptions) *runningProxy {
	t.Helper()
	if strings.Contains(settings, "bind_dn") {
		file := filepath.Join(servers.Folder(t), "bind.password")
		writeFile(t, file, servers.DirectoryPassword+"\n")
		settings += fmt.Sprintf("  password_file = %q\n", file)
	}
	if ca != "" {
		settings += fmt.Sprintf("  ca_file = %q\n", ca)
	}
	if strings.HasPrefix(url, "ldap:") {
		settings += "  start_tls = true\n"
	}
	o.Master = true
	o.Further += fmt.Sprintf("auth \"ldap\" {\n  url = %q\n  timeout = %q\n%s}\n", url, o.timeout(), settings)
	return startProxy(t, o)
}

func TestAuthLDAP(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	two := []backend{{"b1", dovecot.Addr}, {"b2", dovecot.Addr}}
	directory := servers.StartSlapd(t, people())
	ca := directory.Cert.CertFile
	url := map[string]string{ // the certificate is localhost's as well
		"search and bind, StartTLS": directory.URL, "bind alone, ldaps": directory.TLSURL,
	}
	for name, settings := range map[string]string{"search and bind, StartTLS": searchAndBind + attributes, "bind alone, ldaps": bindAlone + attributes} {
		t.Run(name, func(t *testing.T) {
			p := ldapProxy(t, url[name], ca, settings, proxyOptions{Backends: two})
			unknown := "unknown_user"
			if strings.HasPrefix(name, "bind alone") {
				unknown = "bad_password" // the directory says no more
			}
			p.sourceTable(t, "ldap", unknown, "user0*", "x)(uid="+servers.User(1), "*)(uid="+servers.User(1)+"))(|(uid=*", servers.User(1)+",ou=people,dc=example,dc=org", `\2a`)
			c := imaptest.Dial(t, p.Plain)
			c.Login("alias", rightPassword)
			if said := p.Output(); !strings.Contains(said, "user="+servers.User(4)+" backend=b2") || !strings.Contains(said, "login=alias") {
				t.Errorf("the directory's name and backend don't count:\n%s", said)
			}
			_ = c.Close()
			if name == "search and bind, StartTLS" {
				if a := imaptest.Dial(t, p.Plain).TryLogin("both", rightPassword); a.Tagged.Code() != "UNAVAILABLE" {
					t.Errorf("a name that two entries have: %s", a.Tagged)
				}
			}
			p.hangs(t, "ldap", directory.Process)
			directory.Stop()
			p.unavailable(t, "ldap", "down")
			directory.Start()
			p.comesBack(t, "restarted")
			if out, well := p.check("--user", servers.User(1)); !well || !strings.Contains(out, "ok    auth ldap") {
				t.Errorf("imapproxy check:\n%s", out)
			}
			p.toldNoSecrets(t, servers.DirectoryPassword)
		})
	}
}

// Names with a star come through where users.refuse_separators allows them, and mean nothing in a filter.
func TestAuthLDAPEscapesWhatNamesHave(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	directory := servers.StartSlapd(t, people())
	for name, settings := range map[string]string{"search": searchAndBind, "bind": bindAlone} {
		p := ldapProxy(t, directory.TLSURL, directory.Cert.CertFile, settings, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Further: "users {\n  refuse_separators = \"\"\n}\n"})
		for _, user := range []string{"user00*", "*", "*)(uid=*", servers.User(1) + "*", "x)(|(uid=*)", "uid=" + servers.User(1)} {
			if a := imaptest.Dial(t, p.Plain).Plain("", user, rightPassword); a.Tagged.Code() != "AUTHENTICATIONFAILED" {
				t.Errorf("%s: %s: %s", name, user, a.Tagged)
			}
		}
		imaptest.Dial(t, p.Plain).Login(servers.User(1), `pw-Right.%20+&"'\`)
	}
}

func TestAuthLDAPLocksAUserOut(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	directory := servers.StartSlapd(t, people())
	token := filepath.Join(servers.Folder(t), "admin.token")
	writeFile(t, token, "of-the-admin\n")
	p := ldapProxy(t, directory.TLSURL, directory.Cert.CertFile, searchAndBind+attributes, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Linger: "1s", AdminToken: token, Further: recheckSoon})
	p.locksOut(t, token, func() {
		directory.Modify("dn: uid=" + servers.User(1) + ",ou=people,dc=example,dc=org\nchangetype: modify\nreplace: employeeType\nemployeeType: gone\n")
	})
}

// Only the members of a group log in, and check says what is wrong with the settings.
func TestAuthLDAPGroupsAndMistakes(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	directory := servers.StartSlapd(t, people())
	o := proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}}
	group := "  group_base = \"ou=groups,dc=example,dc=org\"\n  group_filter = \"(&(cn=imap)(member=%D))\"\n"
	p := ldapProxy(t, directory.TLSURL, directory.Cert.CertFile, searchAndBind+group, o)
	imaptest.Dial(t, p.Plain).Login(servers.User(1), rightPassword)
	p.cell(t, "ldap", "PLAIN", cell{"no member", servers.User(2), wideA, "AUTHENTICATIONFAILED", "account_disabled"}, mechanisms["PLAIN"])
	for _, c := range []struct{ what, url, ca, settings, want string }{
		{"another authority", directory.TLSURL, servers.NewCertificate(t).CertFile, searchAndBind, "ca_file"},
		{"another base", directory.TLSURL, directory.Cert.CertFile, strings.Replace(searchAndBind, "ou=people", "ou=nobody", 1), "correct base"},
		{"another service account", directory.TLSURL, directory.Cert.CertFile, strings.Replace(searchAndBind, "cn=proxy", "cn=nobody", 1), "correct bind_dn"},
		{"nothing there", "ldaps://127.0.0.1:1", "", searchAndBind, "start the directory"},
	} {
		bad := ldapProxy(t, c.url, c.ca, c.settings, o)
		if out, well := bad.check(); well || !strings.Contains(out, c.want) {
			t.Errorf("%s: check doesn't say %q:\n%s", c.what, c.want, out)
		}
		bad.cell(t, "ldap", "PLAIN", cell{c.what, servers.User(1), rightPassword, "UNAVAILABLE", "unavailable"}, mechanisms["PLAIN"])
		bad.toldNoSecrets(t, servers.DirectoryPassword)
		bad.Stop()
	}
}

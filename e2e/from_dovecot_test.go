package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

const fromDirector = "from-dovecot-director.md"

// The migrations of docs/from-dovecot-director.md, with its configurations. Dovecot 2.4 has no director.
func TestFromDovecot(t *testing.T) {
	t.Parallel()
	t.Run("proxy", fromProxy)
	if servers.DovecotRelease(t) == "2.3" {
		t.Run("director", fromDirectorToUs)
	}
}

// frontConf is a page's configuration of a Dovecot in front of others.
func frontConf(t *testing.T, host string, ours []string, blocks ...string) (conf string, cert servers.Certificate) {
	t.Helper()
	cert = servers.NewCertificate(t)
	for _, b := range blocks {
		conf += documentedIn(t, fromDirector, b)
	}
	return strings.NewReplacer(append(ours, "10.0.0.5", host, "10.0.0.7", "127.0.0.1",
		"/etc/ssl/mail/fullchain.pem", cert.CertFile, "/etc/ssl/mail/privkey.pem", cert.KeyFile)...).Replace(conf), cert
}

func fromDirectorToUs(t *testing.T) {
	t.Parallel()
	hosts := []string{"10.0.0.11", "127.0.78.1", "10.0.0.12", "127.0.78.2"}
	mail := startMailServers(t, hosts[1], hosts[3])
	const host = "127.0.78.5"
	conf, cert := frontConf(t, host, hosts, "director.conf", "director-trust.conf")
	director := servers.StartDovecotFront(t, host, conf)
	name := func(i int) string { return servers.User(i) + "@example.org" }
	config := func(step int) string {
		return documentedIn(t, fromDirector, "director-config") + documentedIn(t, fromDirector, fmt.Sprintf("director-discovery-%d", step))
	}
	const old, all = 5, 8 // users who have a client before the migration, and those whose first one comes later

	straight := map[string]*imaptest.Client{} // clients of the director
	was := map[string]string{}
	for i := 1; i <= old; i++ {
		c := imaptest.DialTLS(t, host+":993", cert.Client)
		c.Login(name(i), servers.Password)
		straight[name(i)] = c
	}
	p := startFromPage(t, config(1), append(hosts, "10.0.0.5", host)...)
	if out, well := p.check(); !well {
		t.Errorf("imapproxy check:\n%s", out)
	}
	clients := map[string]*imaptest.Client{}
	seen := map[string]bool{}
	for user := range straight { // both run: the director says where
		clients[user] = p.login(t, user, servers.Password)
		was[user] = mail.at(t, p.runningProxy, user)
		seen[was[user]] = true
		if said := director.Doveadm("director", "status", user); !strings.Contains(said, "Current: "+strings.TrimSuffix(mail[was[user]].Addr, ":143")) {
			t.Errorf("%s is at %s, and the director says\n%s", user, was[user], said)
		}
	}
	p.refused(t, name(1), "wrong")
	if len(seen) != 2 {
		t.Fatalf("all users are at one mail server: %v", was)
	}
	postfix := servers.Folder(t)
	postfixFolder(t, postfix)
	delivered := func(user, want string) { // a message arrives by way of the address that Postfix is told
		t.Helper()
		transport := postmap(t, postfix, "socketmap:inet:"+p.Lookups+":transport", user)
		if transport != "lmtp:inet:["+want+"]:24" {
			t.Errorf("Postfix is told %q of %s, want %s", transport, user, want)
		}
		servers.Deliver(t, want+":24", user)
	}
	for user, c := range clients {
		delivered(user, host)
		if n := inboxCount(c); n != "1" {
			t.Errorf("%s has %s messages", user, n)
		}
		straight[user].MustOK("NOOP")
		straight[user].MustOK("LOGOUT")
	}

	p.reload(t, config(2))
	for i := old + 1; i <= all; i++ { // go straight to the mail servers
		user := name(i)
		clients[user] = p.login(t, user, servers.Password)
		was[user] = mail.at(t, p.runningProxy, user)
		if r := p.route(t, user); r.Backend != was[user] {
			t.Errorf("%s is at %s, and the route is to %s", user, was[user], r.Backend)
		}
		delivered(user, strings.TrimSuffix(mail[was[user]].Addr, ":143"))
	}
	for i := 1; i <= old; i++ { // stay
		c := p.login(t, name(i), servers.Password)
		if at := mail.at(t, p.runningProxy, name(i)); at != was[name(i)] {
			t.Errorf("%s has moved from %s to %s", name(i), was[name(i)], at)
		}
		if r := p.route(t, name(i)); r.Backend != "director" {
			t.Errorf("the route of %s is to %s", name(i), r.Backend)
		}
		c.MustOK("LOGOUT")
	}
	p.eventually(t, "moved by hand", func() error { // what Postfix is told holds for route.ttl
		p.verb(t, "flush", name(1))
		p.verb(t, "kick", name(1))
		clients[name(1)].Expect("* BYE {*}administrator{*}")
		clients[name(1)].ExpectEOF()
		clients[name(1)] = p.login(t, name(1), servers.Password)
		if said := p.verb(t, "user", name(1)); !strings.Contains(said, "imap1") && !strings.Contains(said, "imap2") {
			return errors.New(said)
		}
		return nil
	})
	if at := mail.at(t, p.runningProxy, name(1)); p.route(t, name(1)).Backend != at {
		t.Errorf("%s is at %s, and the route is to %s", name(1), at, p.route(t, name(1)).Backend)
	}

	director.Stop()
	for i := 1; i <= all; i++ { // all clients stay connected
		user := name(i)
		if n := inboxCount(clients[user]); n != "1" {
			t.Errorf("%s has %s messages", user, n)
		}
		at := mail.at(t, p.runningProxy, user)
		if i > old && at != was[user] {
			t.Errorf("%s, who wasn't at the director, has moved from %s to %s", user, was[user], at)
		}
		was[user] = at
	}
	p.reload(t, config(3))
	for i := 1; i <= all; i++ {
		user := name(i)
		if r := p.route(t, user); r.Backend != was[user] {
			t.Errorf("%s is at %s, and the route is to %s", user, was[user], r.Backend)
		}
		delivered(user, strings.TrimSuffix(mail[was[user]].Addr, ":143"))
		if n := inboxCount(clients[user]); n != "2" {
			t.Errorf("%s has %s messages", user, n)
		}
	}

	director.Start() // and back
	back := strings.Replace(config(1), "routing {\n  storage = \"shared\"\n}\n", documentedIn(t, fromDirector, "director-back"), 1)
	p.reload(t, back)
	p.eventually(t, "aware of the director", func() error {
		if said := p.verb(t, "backends"); !regexp.MustCompile(`(?m)^director .*\bup\b`).MatchString(said) {
			return errors.New(said)
		}
		return nil
	})
	p.verb(t, "kick", "--backend", "imap1")
	p.verb(t, "kick", "--backend", "imap2")
	for i := 1; i <= all; i++ {
		clients[name(i)].Expect("* BYE {*}administrator{*}")
		clients[name(i)].ExpectEOF()
	}
	for i := 1; i <= all; i++ {
		p.login(t, name(i), servers.Password)
		at := mail.at(t, p.runningProxy, name(i))
		if said := director.Doveadm("director", "status", name(i)); !strings.Contains(said, "Current: "+strings.TrimSuffix(mail[at].Addr, ":143")) {
			t.Errorf("%s is at %s, and the director says\n%s", name(i), at, said)
		}
	}
}

func fromProxy(t *testing.T) {
	t.Parallel()
	hosts := []string{"10.0.0.11", "127.0.79.1", "10.0.0.12", "127.0.79.2"}
	mail := startMailServers(t, hosts[1], hosts[3])
	const host = "127.0.79.5"
	dir := servers.Folder(t)
	line := strings.Split(documentedIn(t, fromDirector, "proxy.users"), "\n")
	name := func(i int) string { return servers.User(i) + "@example.org" }
	users := ""
	for i := 1; i <= 6; i++ { // each line is one of the page's, of another user, password and server
		_, rest, ok := strings.Cut(line[(i+1)%2], "}$6$…")
		if !ok || !strings.Contains(rest, "host=10.0.0.1") {
			t.Fatalf("proxy.users: %q", line)
		}
		users += name(i) + ":{PLAIN}" + servers.Password + rest + "\n"
	}
	users = strings.NewReplacer(hosts...).Replace(users)
	publicFile(t, filepath.Join(dir, "proxy.users"), users)
	ours := append(hosts, "/etc/dovecot/", dir+"/", "user = imapproxy", "user = root")
	conf, cert := frontConf(t, host, ours, "proxy-"+servers.DovecotRelease(t)+".conf", "proxy-listener.conf")
	front := servers.StartDovecotFront(t, host, conf)
	p := startFromPage(t, documentedIn(t, fromDirector, "proxy-config"), append(hosts, "/run/dovecot/", front.RunFolder()+"/")...)
	if out, well := p.check(); !well {
		t.Errorf("imapproxy check:\n%s", out)
	}
	sides := func(what string, fronts bool) {
		t.Helper()
		for i := 1; i <= 6; i++ {
			var both []*imaptest.Client
			if fronts { // clients at both at the same time
				c := imaptest.DialTLS(t, host+":993", cert.Client)
				c.Login(name(i), servers.Password)
				both = append(both, c)
			}
			both = append(both, p.login(t, name(i), servers.Password))
			if at := mail.at(t, p.runningProxy, name(i)); !strings.HasPrefix(mail[at].Addr, hostOf(users, name(i))+":") {
				t.Errorf("%s: %s is at %s", what, name(i), at)
			}
			for _, c := range both {
				c.MustOK("LOGOUT")
			}
		}
		for _, c := range []struct{ user, password string }{{name(1), "wrong"}, {"nobody@example.org", servers.Password}} {
			p.refused(t, c.user, c.password)
			if fronts {
				if a := imaptest.DialTLS(t, host+":993", cert.Client).TryLogin(c.user, c.password); a.Tagged.Code() != "AUTHENTICATIONFAILED" {
					t.Errorf("Dovecot: %s with %q: %s", c.user, c.password, a.Tagged)
				}
			}
		}
	}
	sides("side by side", true)

	shell(t, documentedIn(t, fromDirector, "proxy-users.sh"), "/etc/dovecot/", dir+"/", "/etc/imapproxy/", p.dir+"/")
	config := documentedIn(t, fromDirector, "proxy-config")
	begin := strings.Index(config, `auth "dovecot"`)
	end := begin + strings.Index(config[begin:], "}\n") + 2
	p.reload(t, config[:begin]+documentedIn(t, fromDirector, "proxy-auth")+config[end:])
	front.Stop()
	sides("without Dovecot", false)
}

// hostOf is the server in the user's line.
func hostOf(users, user string) string {
	for line := range strings.Lines(users) {
		if strings.HasPrefix(line, user+":") {
			_, host, _ := strings.Cut(line, "host=")
			return strings.TrimSpace(host)
		}
	}
	return ""
}

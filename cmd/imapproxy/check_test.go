package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"imapproxy/internal/config"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// check runs the verb on a configuration, and logs in as user unless that is "".
func check(t testing.TB, text, user, password string) *running {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.hcl"), text)
	args := []string{"check", "--config", filepath.Join(dir, "config.hcl"), "--timeout", "5s"}
	if user != "" {
		write(t, filepath.Join(dir, "password"), password+"\n")
		args = append(args, "--user", user, "--password-file", filepath.Join(dir, "password"))
	}
	r := command(t, args...)
	if password != "" && !strings.EqualFold(password, user) && strings.Contains(r.stdout.String()+r.stderr.String(), password) {
		t.Errorf("the password is shown:\n%s%s", r.stdout, r.stderr)
	}
	return r
}

func TestCheckOfWhatIsWell(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	r := check(t, file(fleet(t, 2), ""), "Alice", "alice")
	for _, want := range []string{
		"ok    configuration ", "ok    listener plain", "ok    user              backend: the backend decides about alice",
		"ok    backend b1", "ok    backend b2", "ok    login b1          alice is logged in and INBOX opens",
		"ok    parking b1        no QRESYNC, so mailboxes are compared, up to 10000 messages",
		"ok    parking b1        hints for INBOX: EXAMINE + IDLE (the backend has no NOTIFY); other mailboxes: EXAMINE + IDLE (",
		"push events", "All is well.",
	} {
		if !strings.Contains(r.stdout.String(), want) {
			t.Errorf("doesn't say %q", want)
		}
	}
	if r.code != exitOK {
		t.Errorf("exit code %d", r.code)
	}
	if t.Failed() {
		t.Log(r.stdout)
	}
}

func TestCheckSaysWhatToFix(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = nobody.Close() // nothing listens there now
	two := fleet(t, 2)
	text := file(two, "")
	users := filepath.Join(t.TempDir(), "users.passwd")
	write(t, users, "alice:{PLAIN}alice\n")
	separate := strings.Replace(text, "shared", "separate", 1) + "auth \"passwd_file\" {\n  path = \"" + users + "\"\n}\n"
	for _, c := range []struct {
		what, text, user, password string
		want                       []string
	}{
		{"wrong password", text, "alice", "not-it", []string{"FAIL  login b1", "correct --user or --password-file"}},
		{"no backend there", strings.Replace(text, two.Addresses()[1], nobody.Addr().String(), 1), "alice", "alice",
			[]string{"ok    login b1", "FAIL  backend b2", "no server listens there"}},
		{"no TLS there", text + "backend_defaults {\n  tls = \"starttls\"\n}\n", "", "", []string{"FAIL  backend b1", "FAIL  backend b2", "tls"}},
		{"no placement", separate, "alice", "alice", []string{"FAIL  placement", "backend=ID"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := check(t, c.text, c.user, c.password)
			for _, want := range c.want {
				if !strings.Contains(r.stdout.String(), want) {
					t.Errorf("doesn't say %q", want)
				}
			}
			if r.code != exitFailed {
				t.Errorf("exit code %d", r.code)
			}
		})
	}
}

// With separate storage each user without a placement is refused, and so is one who is placed
// on a backend that isn't there.
func TestCheckWarnsOfUsersWithoutAPlacement(t *testing.T) {
	dir := t.TempDir()
	users, path := filepath.Join(dir, "users.passwd"), filepath.Join(dir, "config.hcl")
	write(t, users, "alice:{PLAIN}a::::::backend=b1\nbob:{PLAIN}b\ncarol:{PLAIN}c::::::backend=b9\ndave:{PLAIN}d::::::backend=b9\n")
	text := file(fleet(t, 1), "auth \"passwd_file\" {\n  path = \""+users+"\"\n}\n")
	for _, c := range []struct {
		storage string
		says    bool
	}{{"separate", true}, {"shared", false}} {
		write(t, path, strings.Replace(text, "shared", c.storage, 1))
		r := command(t, "check", "--file-only", "--config", path)
		for _, want := range []string{"warn  users             1 user without a placement", `warn  users             2 users placed on "b9"`} {
			if strings.Contains(r.stdout.String(), want) != c.says {
				t.Errorf("%s: %q\n%s%s", c.storage, want, r.stdout, r.stderr)
			}
		}
	}
}

func TestCheckReportsEachBadLineOfAPasswdFile(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users.passwd")
	write(t, users, "alice:{PLAIN}alice\nbob:{NOSUCH}hash\n:{PLAIN}x\n")
	r := check(t, file(fleet(t, 1), "auth \"passwd_file\" {\n  path = \""+users+"\"\n}\n"), "", "")
	if r.code != exitFailed || !strings.Contains(r.stdout.String(), "users.passwd:2: ") || !strings.Contains(r.stdout.String(), "users.passwd:3: ") {
		t.Errorf("%d\n%s", r.code, r.stdout)
	}
	if !strings.Contains(r.stdout.String(), "warn  configuration") {
		t.Error("passwd_file with mode user isn't warned of")
	}
}

// check says for each failure of a backend what to do.
func TestEachFailureOfABackendHasAFix(t *testing.T) {
	down := func(stage, code string, err error) error {
		return &upstream.Unavailable{Backend: "b", Stage: stage, Code: code, Err: err}
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{&upstream.Refused{Backend: "b"}, "--password-file"},
		{down(upstream.StageVerify, "", upstream.ErrIntendedUser), "Courier"},
		{down(upstream.StageVerify, "", upstream.ErrUnverified), "--user"},
		{down(upstream.StageTLS, "", x509.UnknownAuthorityError{}), "ca_file"},
		{down(upstream.StageTLS, "", x509.HostnameError{Certificate: &x509.Certificate{}}), "server_name"},
		{down(upstream.StageTLS, "", x509.CertificateInvalidError{Reason: x509.Expired}), "renew"},
		{down(upstream.StageDial, "", &net.DNSError{}), "host"},
		{down(upstream.StageDial, "", fmt.Errorf("dial: %w", syscall.ECONNREFUSED)), "no server listens"},
		{down(upstream.StageDial, "", syscall.EHOSTUNREACH), "routes"},
		{down(upstream.StageDial, "", upstream.ErrTimeout), "firewall"},
		{down(upstream.StageGreeting, "", upstream.ErrTimeout), "implicit"},
		{down(upstream.StageGreeting, "", upstream.ErrHeaderUnexpected), "send_proxy"},
		{down(upstream.StageLogin, "", context.DeadlineExceeded), "--timeout"},
		{down(upstream.StageTLS, "", errors.New("handshake failure")), "starttls"},
		{down(upstream.StageGreeting, "", upstream.ErrProtocol), "993"},
		{down(upstream.StageLogin, "AUTHENTICATIONFAILED", nil), "master = yes"},
		{down(upstream.StageLogin, "AUTHORIZATIONFAILED", nil), "proxyservers"},
		{down(upstream.StageLogin, "PRIVACYREQUIRED", nil), "starttls"},
		{down(upstream.StageLogin, "", nil), "LOGINDISABLED"},
		{down(upstream.StageSettings, "", nil), "backend_login"},
		{down(upstream.StageCapability, "", nil), "log"},
	} {
		if fix := backendFix(c.err); !strings.Contains(fix, c.want) {
			t.Errorf("%v: %q doesn't speak of %s", c.err, fix, c.want)
		}
	}
}

func TestCheckSaysWhatToSwitchOn(t *testing.T) {
	cfg := config.Default()
	say := func(caps wire.Caps, server string) string {
		r := &report{}
		checkParking(r, "parking b1", cfg, caps, server)
		return r.text.String()
	}
	for _, c := range []struct {
		text       string
		want, lack []string
	}{
		{say(wire.Caps{"IMAP4rev1", "IDLE", "NOTIFY", "ENABLE", "QRESYNC", "UNSELECT"}, serverDovecot), []string{"QRESYNC:", "push.lua", "push_notification_lua", "service_count = 0", "other mailboxes: NOTIFY (the backend has NOTIFY)"}, []string{"off:", "UNSELECT", "acl_user"}},
		{say(wire.Caps{"IMAP4rev1", "IDLE", "NOTIFY", "ENABLE", "QRESYNC", "UNSELECT", "INPROGRESS"}, serverDovecot), []string{"restart_request_count = unlimited"}, []string{"service_count"}},
		{say(wire.Caps{"IMAP4rev1", "IDLE", "ENABLE", "QRESYNC", "UNSELECT"}, serverCyrus), []string{"contrib/cyrus/notify", "event_groups"}, []string{"service_count"}},
		{say(wire.Caps{"IMAP4rev1"}, ""), []string{"no QRESYNC", "no UNSELECT", "no IDLE"}, []string{"push.lua"}},
	} {
		for _, want := range c.want {
			if !strings.Contains(c.text, want) {
				t.Errorf("doesn't say %q:\n%s", want, c.text)
			}
		}
		for _, lack := range c.lack {
			if strings.Contains(c.text, lack) {
				t.Errorf("says %q:\n%s", lack, c.text)
			}
		}
	}
	cfg.Park.Events.TokenFile = "events.token"
	if text := say(wire.Caps{"IMAP4rev1", "IDLE"}, serverDovecot); strings.Contains(text, "push.lua") || !strings.Contains(text, "INBOX: push events") {
		t.Errorf("with events:\n%s", text)
	}
	cfg.Park.Watch, cfg.BackendLogin.Mode = "idle", "master"
	if text := say(wire.Caps{"IMAP4rev1", "IDLE"}, serverDovecot); !strings.Contains(text, `watch = "auto"`) || !strings.Contains(text, "acl_user = %u") {
		t.Errorf("with events that aren't used, and a master:\n%s", text)
	}
	cfg.Park.Enabled = false
	if text := say(wire.Caps{"IMAP4rev1", "IDLE"}, serverDovecot); !strings.Contains(text, "(off: park.enabled = false)") {
		t.Errorf("switched off:\n%s", text)
	}
	if serverName([]byte(`* ID ("name" "Dovecot")`)) != serverDovecot || serverName([]byte(`* ID ("name" "Cyrus IMAPD")`)) != serverCyrus || serverName([]byte("* ID NIL")) != "" {
		t.Error("servers aren't told by their answer to ID")
	}
}

// consulFile is a configuration whose backends are in Consul.
func consulFile(agent *consultest.Agent, more string) string {
	text := file(nil, more)
	before, rest, _ := strings.Cut(text, "discovery \"static\" {\n")
	return before + "discovery \"consul\" {\n  address = \"" + agent.Address() + "\"\n  service = \"imap\"\n" + rest
}

func TestConsulIsCheckedFollowedAndToldOfTheProxy(t *testing.T) {
	agent := consultest.Start(t)
	text := consulFile(agent, "register {\n  tags = [\"test\"]\n}\n")
	if r := check(t, text, "", ""); r.code != exitFailed || !strings.Contains(r.stdout.String(), `service "imap" has no instance`) {
		t.Errorf("%d\n%s", r.code, r.stdout)
	}
	backendsIn(t, agent)
	agent.Maintain("imap-2", "a new disk")
	if r := check(t, text, "bob", "bob"); r.code != exitOK || !strings.Contains(r.stdout.String(), "2 instances, 1 up") ||
		!strings.Contains(r.stdout.String(), "draining") || !strings.Contains(r.stdout.String(), "ok    login imap-1") {
		t.Errorf("%d\n%s", r.code, r.stdout)
	}

	r, plain, api, _ := launchServe(t, text)
	imaptest.Dial(t, plain).Login("bob", "bob")
	if backends := command(t, "backends", "--admin", api).stdout.String(); !strings.Contains(backends, "draining") {
		t.Errorf("backends:\n%s", backends)
	}
	await(t, "the registration", func() bool {
		_, ok := agent.Get("/v1/agent/service/imapproxy-" + hostname(t) + "-127.0.0.1-" + port(t, plain))
		return ok
	})
	r.interrupt()
	if code := r.wait(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if text, ok := agent.Get("/v1/agent/service/imapproxy-" + hostname(t) + "-127.0.0.1-" + port(t, plain)); ok {
		t.Errorf("still registered: %s", text)
	}

	agent.Kill()
	if r := check(t, text, "", ""); r.code != exitFailed || !strings.Contains(r.stdout.String(), "FAIL  consul") || !strings.Contains(r.stdout.String(), "start the agent") {
		t.Errorf("%d\n%s", r.code, r.stdout)
	}
}

func TestCheckNamesTheLimitsOfABackend(t *testing.T) {
	cfg := config.Default()
	for server, want := range map[string][]string{
		serverDovecot: {"process_limit", "mail_max_userip_connections", "fs.inotify.max_user_instances"},
		serverCyrus:   {"maxchild"},
		"":            {"limits of connections"},
	} {
		r := &report{}
		checkLimits(r, "limits b1", cfg, server)
		checkInotify(r, "limits b1", server, false)
		for _, w := range append(want, "park.backend_connections") {
			if !strings.Contains(r.text.String(), w) {
				t.Errorf("%q: doesn't say %q:\n%s", server, w, r.text.String())
			}
		}
	}
}

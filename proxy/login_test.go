package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// deadAddress is an address without a listener.
func deadAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func TestAWrongPasswordIsAnsweredAfterADelay(t *testing.T) {
	const delay = 300 * time.Millisecond
	l := newLab(t, labOptions{limits: session.Limits{AuthFailureDelay: delay}})
	c := l.dial(plain)
	for _, f := range []func() imaptest.Answer{
		func() imaptest.Answer { return c.TryLogin("alice", "wrong") },
		func() imaptest.Answer { return c.Plain("", "alice", "wrong") },
		func() imaptest.Answer { return c.TryLogin("no name\x7f", "wrong") },
	} {
		begun := time.Now()
		if a := f(); a.Tagged.Code() != "AUTHENTICATIONFAILED" || time.Since(begun) < delay {
			t.Fatalf("%s after %s", a.Tagged, time.Since(begun))
		}
	}
	c.Login("alice", password)
}

// unavailable says that a login was refused without a word about the password.
func unavailable(t *testing.T, l *lab, a imaptest.Answer) {
	t.Helper()
	if a.Tagged.Status() != "NO" || a.Tagged.Code() != "UNAVAILABLE" {
		t.Fatalf("the answer is %s", a.Tagged)
	}
	l.logs.wait(t, `login failed.*reason=unavailable`)
	if text := l.logs.String(); strings.Contains(text, "reason=backend_refused") || strings.Contains(text, "reason=bad_password") {
		t.Fatalf("the log blames the user:\n%s", text)
	}
}

func TestABackendThatCannotBeReachedIsNotTheUsersFault(t *testing.T) {
	stalls := make(chan struct{})
	defer close(stalls)
	for name, o := range map[string]labOptions{
		"nobody listens": {handlers: []imaptest.Handler{}, rows: []routing.Backend{{ID: "b1", Address: deadAddress(t), Weight: 1}}},
		"no backend":     {handlers: []imaptest.Handler{}, rows: []routing.Backend{}},
		"down":           {handlers: []imaptest.Handler{}, rows: []routing.Backend{{ID: "b1", Address: "127.0.0.1:1", Weight: 1, State: routing.Down}}},
		"BYE":            {handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error { return c.Send("* BYE full") }}},
		"closes":         {handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error { return nil }}},
		"no IMAP":        {handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error { return c.Send("220 smtp.example.org ESMTP") }}},
		"garbage":        {handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error { return c.Garbage(100_000, 1) }}},
		"closes at login": {handlers: []imaptest.Handler{imaptest.Dialogue{Commands: commands{"AUTHENTICATE": func(c *imaptest.BackendConn, _ imaptest.Command) error {
			return c.Do(imaptest.FaultReset)
		}}}.Serve}},
		"its storage is down": {handlers: []imaptest.Handler{imaptest.Dialogue{Check: func(*imaptest.BackendConn, imaptest.Login) string { return "NO [UNAVAILABLE] storage" }}.Serve}},
		"says nothing": {handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error { return c.DrainUntilEOF() }}, change: func(o *Options) {
			o.Dialer, _ = upstream.New(upstream.Options{LoginTimeout: 200 * time.Millisecond})
		}},
		"wants TLS that isn't there": {change: func(o *Options) { o.BackendTLS = "starttls" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, o)
			c := l.dial(plain)
			unavailable(t, l, c.TryLogin("alice", password))
			c.MustOK("NOOP") // the client may try again
		})
	}
}

// sessionOf is what is known of a user's only session.
func (l *lab) sessionOf(user string) session.Info {
	l.t.Helper()
	page, _ := l.srv.Sessions(session.Filter{User: user})
	if len(page) != 1 {
		l.t.Fatalf("%d sessions of %s: %+v", len(page), user, page)
	}
	return page[0]
}

func TestWithSharedStorageTheNextBackendIsTriedWhenOneIsDown(t *testing.T) {
	l := newLab(t, labOptions{handlers: []imaptest.Handler{polite().Serve, polite().Serve, polite().Serve}})
	c := l.login("alice")
	first := l.sessionOf("alice").Backend
	must(t, c.Conn.Close())
	eventually(t, "the session's end", func() bool { return l.srv.reg.Total() == 0 })
	for i, b := range l.backends {
		if first == fmt.Sprintf("b%d", i+1) {
			b.Close()
		}
	}
	l.login("alice")
	now := l.sessionOf("alice")
	if now.Backend == first || now.Why != "failover" {
		t.Fatalf("first %s, then %+v", first, now)
	}
	again := l.login("alice") // and every further session goes there, too
	again.MustOK("NOOP")
	page, _ := l.srv.Sessions(session.Filter{User: "alice", Backend: now.Backend})
	if len(page) != 2 {
		t.Fatalf("%+v", page)
	}
}

func TestWithSeparateStorageOnlyThePlacementCounts(t *testing.T) {
	places := map[string]string{"alice": "b2", "bob": "b1", "carol": "gone"}
	l := newLab(t, labOptions{storage: routing.Separate, handlers: []imaptest.Handler{polite().Serve, polite().Serve}, change: func(o *Options) {
		o.Placement = func(_ context.Context, user string) (string, bool, error) {
			if user == "dave" {
				return "", false, errors.New("Consul is away")
			}
			b, ok := places[user]
			return b, ok, nil
		}
	}})
	l.login("alice")
	if s := l.sessionOf("alice"); s.Backend != "b2" || s.Why != "placement" {
		t.Fatalf("%+v", s)
	}
	c := l.dial(plain)
	for _, user := range []string{"nobody", "carol", "dave"} {
		unavailable(t, l, c.TryLogin(user, password))
	}
	l.backends[0].Close()
	unavailable(t, l, c.TryLogin("bob", password))
	if n := l.backends[1].Accepted(); n != 1 {
		t.Fatalf("b2 has seen %d connections, and none but alice's is its", n)
	}
}

func TestEverySessionOfAUserSharesOneBackend(t *testing.T) {
	l := newLab(t, labOptions{handlers: []imaptest.Handler{polite().Serve, polite().Serve, polite().Serve, polite().Serve}})
	var g sync.WaitGroup
	for i := range 24 {
		g.Go(func() {
			c, err := imaptest.DialConn(t.Context(), l.addr(plain), imaptest.DialOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			if _, err = c.Next(); err != nil {
				t.Error(err)
			}
			if _, r, err := c.Command("a1", fmt.Sprintf("LOGIN user%d %s", i%4, password)); err != nil || r.Status() != "OK" {
				t.Error(r, err)
			}
		})
	}
	g.Wait()
	where := map[string]string{}
	page, _ := l.srv.Sessions(session.Filter{})
	for _, s := range page {
		if was, ok := where[s.User]; ok && was != s.Backend {
			t.Errorf("%s is on %s and on %s", s.User, was, s.Backend)
		}
		where[s.User] = s.Backend
	}
	if len(page) != 24 || len(where) != 4 {
		t.Fatalf("%d sessions of %d users", len(page), len(where))
	}
}

// passwd is a source of this content.
func passwd(t testing.TB, names auth.Names, content string) auth.Source {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users.passwd")
	must(t, os.WriteFile(file, []byte(content), 0o600))
	s, err := auth.NewPasswdFile(file, auth.PasswdFileOptions{Names: names})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func TestPasswdFileDecidesBeforeAnyBackendIsAsked(t *testing.T) {
	logins := make(chan imaptest.Login, 10)
	backend := imaptest.Dialogue{Check: func(_ *imaptest.BackendConn, l imaptest.Login) string {
		logins <- l
		return ""
	}}
	names := auth.Names{DefaultDomain: "example.org", Lowercase: true}
	l := newLab(t, labOptions{storage: routing.Separate, handlers: []imaptest.Handler{backend.Serve, backend.Serve}, change: func(o *Options) {
		o.Names = names
		o.Sources = []auth.Source{passwd(t, names, "alice@example.org:{PLAIN}"+password+"::::::backend=b2\n")}
		o.Login = upstream.Auth{Mode: upstream.ModeMaster, MasterUser: "proxy", MasterPassword: "the masters s3cret-Pa55"}
	}})
	c := l.dial(plain)
	if a := c.TryLogin("alice", "wrong"); a.Tagged.Code() != "AUTHENTICATIONFAILED" {
		t.Fatal(a)
	}
	if a := c.TryLogin("nobody", password); a.Tagged.Code() != "AUTHENTICATIONFAILED" {
		t.Fatal(a)
	}
	if n := l.backends[0].Accepted() + l.backends[1].Accepted(); n > 0 {
		t.Fatalf("backends were asked %d times", n)
	}
	// The name is normalised before anything else is done with it. (The backend
	// logs in every user.)
	a := c.TryLogin("ALICE", password)
	if l.backends[0].Accepted() > 0 {
		t.Fatal("the placement wasn't followed")
	}
	got := <-logins
	if got.Authzid != "alice@example.org" || got.User != "proxy" || !strings.HasPrefix(got.Password, "the masters") {
		t.Fatalf("%s as %s, answered %s", got.User, got.Authzid, a.Tagged)
	}
}

func TestWhatIsPipelinedBehindLoginIsTheBackends(t *testing.T) {
	for name, login := range map[string]string{
		"LOGIN":        "a1 LOGIN alice " + password + "\r\n",
		"LITERAL+":     fmt.Sprintf("a1 LOGIN {5+}\r\nalice {%d+}\r\n%s\r\n", len(password), password),
		"AUTHENTICATE": "a1 AUTHENTICATE PLAIN " + imaptest.PlainInitial("", "alice", password) + "\r\n",
	} {
		for _, listener := range []string{plain, implicit} {
			t.Run(name+" "+listener, func(t *testing.T) {
				t.Parallel()
				l := newLab(t, labOptions{})
				c := l.dial(listener)
				big := strings.Repeat("x", 3000)
				must(t, c.SendRaw(login+"a2 SELECT INBOX\r\na3 NOOP\r\na4 X"+big+"\r\na5 NOOP\r\n"))
				c.Expect("a1 OK [CAPABILITY IMAP4rev1 IDLE ID LITERAL+ UIDPLUS MOVE] Logged in")
				_, tagged, err := c.Until("a2")
				if err != nil || tagged.Status() != "OK" {
					t.Fatal(tagged, err)
				}
				c.Expect("a3 OK")
				c.Expect("a4 BAD")
				c.Expect("a5 OK")
			})
		}
	}
}

func TestTheBackendIsToldWhoTheClientIs(t *testing.T) {
	d := polite()
	d.LoginCaps = "IMAP4rev1 ID"
	l := newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve}})
	c := l.dial(plain)
	c.MustOK(`ID ("x-proxy-ttl" "3")`)
	c.Login("alice", password)
	id := l.backends[0].WaitCommand("ID").Args
	host, port, _ := net.SplitHostPort(c.LocalAddr().String())
	_, lport, _ := net.SplitHostPort(l.addr(plain))
	for _, want := range []string{`"x-originating-ip" "` + host + `"`, `"x-originating-port" "` + port + `"`,
		`"x-connected-ip" "127.0.0.1"`, `"x-connected-port" "` + lport + `"`, `"x-session-id" "` + l.sessionOf("alice").ID + `"`, `"x-proxy-ttl" "2"`} {
		if !strings.Contains(id, want) {
			t.Errorf("%s isn't in %s", want, id)
		}
	}
	for _, usedUp := range []string{"1", "0", "-7"} {
		loop := l.dial(plain)
		loop.MustOK(`ID ("x-proxy-ttl" %q)`, usedUp)
		unavailable(t, l, loop.TryLogin("alice", password))
	}
}

// Only a trusted proxy can let a login pass more proxies than the default.
func TestALargeTTLIsBelievedOfTrustedProxiesOnly(t *testing.T) {
	for name, c := range map[string]struct {
		trusted string
		told    string
	}{"a client": {"192.0.2.0/24", "4"}, "a proxy": {"127.0.0.0/8", "99"}} {
		t.Run(name, func(t *testing.T) {
			d := polite()
			d.LoginCaps = "IMAP4rev1 ID"
			l := newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve}, change: func(o *Options) {
				o.Listeners[0].TrustedProxies = []netip.Prefix{netip.MustParsePrefix(c.trusted)}
			}})
			client := l.dial(plain)
			client.MustOK(`ID ("x-proxy-ttl" "100")`)
			client.Login("alice", password)
			if id := l.backends[0].WaitCommand("ID").Args; !strings.Contains(id, `"x-proxy-ttl" "`+c.told+`"`) {
				t.Errorf("the backend is told %s", id)
			}
		})
	}
}

// What a trusted webmail says of its client counts for everything that goes by addresses; what others say counts for nothing.
func TestATrustedWebmailNamesItsClient(t *testing.T) {
	const named = `ID ("x-originating-ip" "203.0.113.9" "x-originating-port" "4711" "x-connected-ip" "198.51.100.1" "x-connected-port" "443")`
	start := func(t *testing.T, trusted string, change func(*Options)) *lab {
		d := polite()
		d.LoginCaps = "IMAP4rev1 ID"
		return newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve}, change: func(o *Options) {
			for i := range o.Listeners {
				o.Listeners[i].TrustedProxies = []netip.Prefix{netip.MustParsePrefix(trusted)}
			}
			if change != nil {
				change(o)
			}
		}})
	}
	toldOf := func(t *testing.T, l *lab, c *imaptest.Client, ip string) {
		t.Helper()
		c.Login("alice", password)
		if id := l.backends[0].WaitCommand("ID").Args; !strings.Contains(id, `"x-originating-ip" "`+ip+`"`) {
			t.Errorf("the backend is told %s", id)
		}
		if shown := l.sessionOf("alice").Client.Addr().String(); shown != ip {
			t.Errorf("the page shows %s", shown)
		}
	}
	t.Run("trusted", func(t *testing.T) {
		l := start(t, "127.0.0.0/8", nil)
		c := l.dial(plain)
		c.MustOK(named)
		if a := c.TryLogin("alice", "wrong"); a.OK() {
			t.Error("a wrong password")
		}
		l.logs.wait(t, "203.0.113.9") // for fail2ban
		toldOf(t, l, c, "203.0.113.9")
		if id := l.backends[0].WaitCommand("ID").Args; !strings.Contains(id, `"x-originating-port" "4711"`) || !strings.Contains(id, `"x-connected-ip" "198.51.100.1" "x-connected-port" "443"`) {
			t.Errorf("the backend is told %s", id)
		}
	})
	t.Run("another client", func(t *testing.T) {
		l := start(t, "192.0.2.0/24", nil)
		c := l.dial(plain)
		c.MustOK(named)
		toldOf(t, l, c, "127.0.0.1")
	})
	t.Run("the last ID counts, and only addresses do", func(t *testing.T) {
		l := start(t, "127.0.0.0/8", nil)
		c := l.dial(plain)
		c.MustOK(named)
		c.MustOK(`ID ("X-Originating-IP" "2001:db8::1")`)
		for _, none := range []string{"", "0.0.0.0", "224.0.0.1", "fe80::1%eth0", "mail.example.org"} {
			c.MustOK(`ID ("x-originating-ip" %q)`, none)
		}
		toldOf(t, l, c, "2001:db8::1")
	})
	t.Run("not from before STARTTLS", func(t *testing.T) {
		l := start(t, "127.0.0.0/8", nil)
		c := l.dial(startTLS)
		c.MustOK(named)
		if err := c.Conn.StartTLS(l.cert.Client); err != nil {
			t.Fatal(err)
		}
		toldOf(t, l, c, "127.0.0.1")
	})
	t.Run("limits go by it", func(t *testing.T) {
		l := start(t, "127.0.0.0/8", func(o *Options) { o.Limits.PerIP = 2 })
		first, second := l.dial(plain), l.dial(plain)
		first.MustOK(named)
		second.MustOK(named)
		third := l.dial(plain) // the webmail's own address has room again
		third.Write("a " + named)
		third.Expect("* BYE [LIMIT]{*}")
		first.MustOK("LOGOUT")
		first.ExpectEOF()
		eventually(t, "the ends of two sessions", func() bool { return l.srv.reg.Total() == 1 })
		l.dial(plain).MustOK(named)
	})
	t.Run("a claim opens nothing", func(t *testing.T) {
		l := start(t, "127.0.0.0/8", func(o *Options) {
			for i := range o.Listeners {
				o.Listeners[i].CleartextFrom = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
			}
		})
		c := l.dial(plain)
		c.MustOK(named)
		if a := c.TryLogin("alice", password); a.OK() {
			t.Error("a password in the clear from a network that is only claimed")
		}
	})
}

func TestAnAlertOfTheBackendsLoginReachesTheClient(t *testing.T) {
	l := newLab(t, labOptions{handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error {
		if err := c.Send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready"); err != nil {
			return err
		}
		cmd, err := c.ReadCommand()
		if err != nil {
			return err
		}
		if err := c.Send("* OK [ALERT] your mailbox is full", cmd.Tag()+" OK [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE AUTH=PLAIN] welcome", "* OK [ALERT] very full"); err != nil {
			return err
		}
		return c.DrainUntilEOF()
	}}})
	c := l.dial(plain)
	c.Write("a1 LOGIN alice " + password)
	c.Expect("* OK [ALERT] your mailbox is full")
	c.Expect("a1 OK [CAPABILITY IMAP4rev1] Logged in")
	c.Expect("* OK [ALERT] very full")
}

func TestFailedAndUnavailableLoginsAreTimedOutOnlyWhenTheirTimeIsUp(t *testing.T) {
	l := newLab(t, labOptions{limits: session.Limits{PreloginTimeout: 700 * time.Millisecond, AuthFailureDelay: time.Hour}})
	for name, c := range map[string]*imaptest.Client{"silent": l.dial(plain), "in the delay": l.dial(plain)} {
		if name == "in the delay" {
			c.Write("a1 LOGIN alice wrong")
		}
		c.Expect("* BYE {*}")
		c.ExpectEOF()
		_ = c.Conn.Close()
	}
	l.stop()
	if n := l.closed(session.ReasonLoginTimeout); n != 2 {
		t.Fatalf("%d were timed out", n)
	}
}

func TestTheStateOfASessionIsShown(t *testing.T) {
	l := newLab(t, labOptions{})
	waiting := l.dial(plain)
	c := l.login("alice")
	state := func(want session.Info) {
		t.Helper()
		eventually(t, fmt.Sprintf("the state %+v", want), func() bool {
			s := l.sessionOf("alice")
			return s.State == want.State && s.Idle == want.Idle && s.InFlight == want.InFlight && s.Attachment == "attached"
		})
	}
	state(session.Info{State: "authenticated"})
	c.MustOK("SELECT INBOX")
	state(session.Info{State: "selected"})
	done := c.Idle()
	state(session.Info{State: "selected", Idle: true, InFlight: 1})
	done()
	state(session.Info{State: "selected"})
	if a := c.Cmd("UNSELECT"); a.Tagged.Status() != "BAD" {
		t.Fatal(a)
	}
	state(session.Info{State: "selected"})
	s := l.sessionOf("alice")
	if s.TLS || s.Listener != plain || s.Client.String() != c.LocalAddr().String() || s.Backend != "b1" || s.Commands != 3 || s.BytesIn == 0 || s.BytesOut == 0 {
		t.Fatalf("%+v", s)
	}
	page, _ := l.srv.Sessions(session.Filter{})
	if len(page) != 2 {
		t.Fatalf("%+v", page)
	}
	for _, s := range page {
		if s.User == "" && (s.State != "not authenticated" || s.Attachment != "none") {
			t.Fatalf("%+v", s)
		}
	}
	st := l.srv.Status()
	if st.Sessions != 2 || st.Attachments["attached"] != 1 || st.BackendConns != 1 || st.Draining || st.Hostname != "proxy.test" {
		t.Fatalf("%+v", st)
	}
	waiting.MustOK("LOGOUT")
}

func TestSessionsAreListedByThePage(t *testing.T) {
	l := newLab(t, labOptions{})
	const n = 23
	for i := range n {
		l.login([]string{"alice", "bob"}[i%2])
	}
	for _, f := range []session.Filter{{Limit: 5}, {Limit: 1}, {Limit: n}, {}, {User: "alice", Limit: 4}, {Backend: "b1", Limit: 22}, {User: "nobody"}, {Backend: "b9"}} {
		seen := map[string]bool{}
		want := n
		switch {
		case f.User == "alice":
			want = 12
		case f.User == "nobody", f.Backend == "b9":
			want = 0
		}
		for {
			page, next := l.srv.Sessions(f)
			if f.Limit > 0 && len(page) > f.Limit {
				t.Fatalf("a page of %d", len(page))
			}
			for _, s := range page {
				if seen[s.ID] || s.ID <= f.After {
					t.Fatalf("%s is out of order or there twice", s.ID)
				}
				seen[s.ID] = true
			}
			if f.After = next; next == "" {
				break
			}
		}
		if len(seen) != want {
			t.Fatalf("%+v: %d sessions, want %d", f, len(seen), want)
		}
	}
}

func TestALoginLeavesATraceWithItsPhases(t *testing.T) {
	l := newLab(t, labOptions{})
	c := l.dial(implicit)
	c.Login("alice", password)
	c.MustOK("NOOP")
	must(t, c.Conn.Close())
	l.ended(session.ReasonClientClosed)
	names := map[string]int{}
	for _, s := range l.spans.GetSpans() {
		names[s.Name]++
	}
	for _, want := range []string{"login", "tls", "auth", "pick", "dial", "backend_login"} {
		if names[want] != 1 {
			t.Errorf("%d spans %q: %v", names[want], want, names)
		}
	}
	if line := l.logs.wait(t, "msg=login "); !strings.Contains(line, "trace_id=") || !strings.Contains(line, "session=") {
		t.Errorf("the log's line has no ids: %s", line)
	}
	if l.metric("imapproxy_login_duration_seconds_count", `mechanism="LOGIN"`, `outcome="ok"`) != 1 {
		t.Error("the login isn't counted:", grep(l.metrics(), "login"))
	}
}

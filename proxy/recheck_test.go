package proxy

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
)

// fromFile is a lab whose users stand in a passwd-file, and whose backend takes a master.
type fromFile struct {
	*scripted
	file string
}

func newFromFile(t *testing.T, content string) *fromFile {
	t.Helper()
	f := &fromFile{file: filepath.Join(t.TempDir(), "users.passwd")}
	f.write(t, content)
	source, err := auth.NewPasswdFile(f.file, auth.PasswdFileOptions{Poll: 2 * time.Millisecond})
	must(t, err)
	t.Cleanup(func() { must(t, source.Close()) })
	f.scripted = newScripted(t, scriptedCaps, 3, func(o *Options) {
		o.Sources = []auth.Source{source}
		o.Login = upstream.Auth{Mode: upstream.ModeMaster, MasterUser: "master", MasterPassword: "of-the-master"}
	})
	f.judge = func(l imaptest.Login) string {
		if l.Authzid == "" {
			return "NO [AUTHORIZATIONFAILED] not for itself"
		}
		return ""
	}
	return f
}

func (f *fromFile) write(t testing.TB, content string) {
	t.Helper()
	next := f.file + ".new"
	must(t, os.WriteFile(next, []byte(content), 0o600))
	must(t, os.Rename(next, f.file))
}

// A user's line says that they aren't let in any more, or by another password: none of their
// sessions stays, wherever it stands. Others' sessions do, and so do the user's where the line
// only looks otherwise.
func TestWhoIsLockedOutByAPasswdFileDoesntStayIn(t *testing.T) {
	const others = "bob:{PLAIN}" + password + "\n"
	for name, c := range map[string]struct {
		line string
		ends bool
	}{
		"locked":           {"alice:!{PLAIN}" + password, true},
		"nologin":          {"alice:{PLAIN}" + password + "::::::nologin", true},
		"removed":          {"", true},
		"another password": {"alice:{PLAIN}another", true},
		"hashed anew":      {"alice:{SHA256-CRYPT}$5$abcdefgh$ObsWX5AO8GvS9nuDV2bZ40qBeIxcWDEzj4y67OQYVN0", false},
		"another home":     {"alice:{PLAIN}" + password + ":::::/elsewhere", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFromFile(t, others+"alice:{PLAIN}"+password+"\n")
			idle := f.idle("SELECT INBOX")
			attached := f.login("alice")
			bob := f.login("bob")
			f.write(t, others+c.line+"\n")
			if !c.ends {
				eventually(t, "the new file", func() bool { return auth.Version(f.opts.Sources) == 1 })
				f.srv.Sweep()
				done(idle)
				idle.MustOK("UID FETCH 1:* (FLAGS)")
				attached.MustOK("NOOP")
				bob.MustOK("NOOP")
				return
			}
			eventually(t, "both sessions' end", func() bool { f.srv.Sweep(); return f.closed(session.ReasonCredentials) == 2 })
			for _, c := range []*imaptest.Client{idle, attached} {
				if r := c.Read(); r.Status() != "BYE" || !strings.Contains(r.Text, "password") {
					t.Errorf("the client hears %s", r)
				}
				c.ExpectEOF()
			}
			bob.MustOK("NOOP")
		})
	}
}

// Whose login is under way when they are locked out doesn't stay in: the round that looks at the
// sessions passes by before there is one.
func TestWhoIsLockedOutDuringTheirLoginDoesntStayIn(t *testing.T) {
	t.Parallel()
	const bob = "bob:{PLAIN}" + password + "\n"
	f := newFromFile(t, bob+"alice:{PLAIN}"+password+"\n")
	judge := f.judge
	asked, answer := make(chan struct{}), make(chan struct{})
	f.judge = func(l imaptest.Login) string {
		if l.Authzid == "alice" {
			close(asked)
			<-answer
		}
		return judge(l)
	}
	c := f.dial(plain)
	c.Write("a1 LOGIN alice " + password)
	<-asked
	f.write(t, bob)
	eventually(t, "the new file", func() bool { return auth.Version(f.opts.Sources) == 1 })
	f.srv.Sweep()
	for range 2 { // the second is begun when the first is over
		f.srv.rechecks <- struct{}{}
		eventually(t, "a round", func() bool { return len(f.srv.rechecks) == 0 })
	}
	close(answer)
	c.Expect("a1 OK{*}")
	if r := c.Read(); r.Status() != "BYE" || !strings.Contains(r.Text, "password") {
		t.Errorf("the client hears %s", r)
	}
	c.ExpectEOF()
}

// changeable is a source that can't say whether anything has changed.
type changeable struct {
	mu      sync.Mutex // guards what follows
	verdict auth.Verdict
	asked   int
}

func (*changeable) Name() string { return "changeable" }
func (c *changeable) Authenticate(context.Context, auth.Credentials) auth.Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return c.verdict
}
func (*changeable) Close() error { return nil }

func (c *changeable) set(v auth.Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verdict = v
}

func (c *changeable) times() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func TestASourceIsAskedAgainAtAResumeButNotAtEach(t *testing.T) {
	t.Parallel()
	source := &changeable{verdict: auth.Accepted{}}
	p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Sources = []auth.Source{source} })
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	for range 3 {
		p.idles(c)
		done(c)
		c.MustOK("UID FETCH 1:* (FLAGS)")
	}
	if n := source.times(); n != 1 {
		t.Errorf("the source was asked %d times within recheck", n)
	}
	p.idles(c)
	p.clock.forward(session.DefaultRecheck)
	done(c)
	c.MustOK("UID FETCH 1:* (FLAGS)")
	if n := source.times(); n != 2 {
		t.Errorf("the source was asked %d times after recheck", n)
	}
	p.idles(c)
	p.clock.forward(session.DefaultRecheck)
	source.set(auth.Rejected{Reason: auth.ReasonAccountDisabled})
	done(c)
	selects := len(p.said("SELECT"))
	c.Write("x UID FETCH 1:* (FLAGS)")
	if r := c.Read(); r.Status() != "BYE" || !strings.Contains(r.Text, "password") {
		t.Errorf("a user who was locked out hears %s", r)
	}
	c.ExpectEOF()
	p.ended(session.ReasonCredentials)
	if n := len(p.said("SELECT")); n != selects {
		t.Error("their mailbox was opened")
	}
}

// Where the backend knows the passwords, a warm connection doesn't keep it from being asked.
func TestAWarmConnectionDoesntKeepALockedOutUserIn(t *testing.T) {
	t.Parallel()
	p := newScripted(t, scriptedCaps, 3)
	c := p.idle("SELECT INBOX")
	p.mu.Lock()
	p.refuses = "NO [AUTHENTICATIONFAILED] locked"
	p.mu.Unlock()
	done(c)
	c.MustOK("UID FETCH 1:* (FLAGS)") // the backend was asked a moment ago
	p.idles(c)
	p.clock.forward(session.DefaultRecheck)
	done(c)
	c.Write("x UID FETCH 1:* (FLAGS)")
	if r := c.Read(); r.Status() != "BYE" || !strings.Contains(r.Text, "password") {
		t.Errorf("a user who was locked out hears %s", r)
	}
	c.ExpectEOF()
	p.ended(session.ReasonCredentials)
}

// A login with the session's own password is refused: what is parked with it ends, and what is
// parked with another password doesn't.
func TestARefusedCredentialEndsTheParkedSessionsThatHoldIt(t *testing.T) {
	t.Parallel()
	p := newScripted(t, scriptedCaps, 3)
	var right atomic.Value
	right.Store(password)
	p.judge = func(l imaptest.Login) string {
		if l.Password != right.Load() {
			return "NO [AUTHENTICATIONFAILED] wrong"
		}
		return ""
	}
	old := p.idle("SELECT INBOX")
	if a := p.dial(plain).TryLogin("alice", "guess"); a.OK() {
		t.Fatal(a)
	}
	done(old) // a guess ends nothing
	p.idles(old)
	right.Store("its-successor")
	fresh := p.dial(plain)
	fresh.Login("alice", "its-successor")
	fresh.MustOK("SELECT INBOX")
	fresh.Write("i IDLE")
	fresh.Expect("+{*}")
	eventually(t, "both to be parked", func() bool {
		p.srv.Sweep()
		return p.srv.Status().Attachments[session.Parked.String()] == 2
	})
	if a := p.dial(plain).TryLogin("alice", password); a.OK() {
		t.Fatal(a)
	}
	if r := old.Read(); r.Status() != "BYE" || !strings.Contains(r.Text, "password") {
		t.Errorf("its session hears %s", r)
	}
	old.ExpectEOF()
	p.ended(session.ReasonCredentials)
	done(fresh)
	if n := p.closed(session.ReasonCredentials); n != 1 {
		t.Errorf("%d sessions have ended", n)
	}
}

// kick kicks, which waits for the clients' ends, and has them read theirs.
func (l *lab) kick(k Kick, ends ...*imaptest.Client) Kicked {
	l.t.Helper()
	done := make(chan Kicked, 1)
	go func() { done <- l.srv.Kick(l.t.Context(), k) }()
	for _, c := range ends {
		c.Expect("* BYE {*}administrator{*}")
		c.ExpectEOF()
	}
	return <-done
}

func TestKickEndsAUsersSessionsAndNoOthers(t *testing.T) {
	t.Parallel()
	p := newScripted(t, scriptedCaps, 3)
	idle := p.idle("SELECT INBOX")
	attached, bob := p.login("alice"), p.login("bob")
	if k := p.srv.Kick(t.Context(), Kick{User: "carol"}); len(k.Sessions) != 0 {
		t.Errorf("%+v", k)
	}
	id := ""
	page, _ := p.srv.Sessions(session.Filter{User: "alice"})
	for _, s := range page {
		if s.Attachment == session.Attached.String() {
			id = s.ID
		}
	}
	for user, session := range map[string]string{"bob": id, "alice": "none"} {
		if k := p.srv.Kick(t.Context(), Kick{User: user, Session: session}); len(k.Sessions) != 0 {
			t.Errorf("%s hasn't got a session %s: %+v", user, session, k)
		}
	}
	pool := p.opts.Park.Pool
	if pool.Len() == 0 {
		t.Fatal("no connection is warm")
	}
	k := p.kick(Kick{User: "alice", Session: id}, attached)
	if len(k.Sessions) != 1 || k.Sessions[0] != id || k.Left != 0 || k.Warm != 0 || pool.Len() == 0 {
		t.Errorf("one session: %+v", k)
	}
	k = p.kick(Kick{User: "alice", Forget: true}, idle)
	if len(k.Sessions) != 1 || k.Left != 0 || k.Warm == 0 || pool.Len() != 0 {
		t.Errorf("the rest, and its warm connections: %+v, %d left", k, pool.Len())
	}
	bob.MustOK("NOOP")
	if n := p.closed(session.ReasonKicked); n != 2 {
		t.Errorf("%d sessions were kicked", n)
	}
}

// A session is known by its id alone, and a backend's are ended all at once; a dry run ends none.
func TestKickEndsOneSessionOrAllOfABackend(t *testing.T) {
	t.Parallel()
	p := newScripted(t, scriptedCaps, 3)
	one, two, bob := p.login("alice"), p.login("alice"), p.login("bob")
	me := one.LocalAddr().String()
	id, backend := "", ""
	page, _ := p.srv.Sessions(Filter{User: "alice"})
	for _, s := range page {
		if backend = s.Backend; s.Client.String() == me {
			id = s.ID
		}
	}
	for _, none := range []Kick{{Session: "none"}, {Backend: "none"}} {
		if k := p.srv.Kick(t.Context(), none); k.Count != 0 || len(k.Sessions) != 0 {
			t.Errorf("%+v: %+v", none, k)
		}
	}
	if k := p.kick(Kick{Session: id}, one); k.Count != 1 || k.Users != 1 || k.Left != 0 || k.Sessions[0] != id {
		t.Errorf("one session: %+v", k)
	}
	if k := p.srv.Kick(t.Context(), Kick{Backend: backend, DryRun: true}); k.Count != 2 || k.Users != 2 {
		t.Errorf("a dry run: %+v", k)
	}
	two.MustOK("NOOP")
	bob.MustOK("NOOP")
	if k := p.kick(Kick{Backend: backend}, two, bob); k.Count != 2 || k.Users != 2 || k.Left != 0 {
		t.Errorf("a backend: %+v", k)
	}
}

// A user is kicked while a login of theirs is under way: it doesn't stay in, and the next does.
func TestKickEndsALoginThatIsUnderWay(t *testing.T) {
	t.Parallel()
	d := polite()
	check := d.Check
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	d.Check = func(c *imaptest.BackendConn, l imaptest.Login) string {
		if l.User == "alice" {
			asked <- struct{}{}
			<-answer
		}
		return check(c, l)
	}
	l := newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve}})
	bob := l.login("bob")
	c := l.dial(plain)
	c.Write("a1 LOGIN alice " + password)
	<-asked
	if k := l.srv.Kick(t.Context(), Kick{User: "alice"}); len(k.Sessions) != 0 {
		t.Errorf("%+v", k)
	}
	l.srv.Kick(t.Context(), Kick{User: "bob", Session: "another"})
	close(answer)
	c.Expect("a1 OK{*}")
	c.Expect("* BYE {*}administrator{*}")
	c.ExpectEOF()
	l.login("alice").MustOK("NOOP")
	bob.MustOK("NOOP")
	l.login("bob").MustOK("NOOP")
	l.ended(session.ReasonKicked) // its end is counted behind the client's own
	if n := l.closed(session.ReasonKicked); n != 1 {
		t.Errorf("%d sessions were kicked", n)
	}
}

// users.recheck = "0s" asks at each resume, and not all the time about those that don't resume.
func TestSessionsThatDontResumeAreAskedAboutNowAndThen(t *testing.T) {
	for recheck, want := range map[time.Duration]time.Duration{0: session.DefaultRecheck, time.Millisecond: time.Second, time.Hour: time.Hour} {
		if got := (Options{Recheck: recheck}).recheckEvery(); got != want {
			t.Errorf("%s: every %s", recheck, got)
		}
	}
}

// A line gives its user another name: the session is that user's, and stays while the line does, whatever else in the file changes.
// Once the line names another user, or another network, it ends.
func TestASessionUnderAnotherNameOfAPasswdFile(t *testing.T) {
	for _, changed := range []string{"user=u18", "user=u17 allow_nets=192.0.2.0/24", ""} {
		const line = "alice:{PLAIN}" + password + "::::::"
		p := newFromFile(t, line+"user=u17 allow_nets=127.0.0.0/8\nbob:{PLAIN}b\n")
		c := p.login("alice")
		c.MustOK("SELECT INBOX")
		p.idles(c)
		sessions := p.srv.reg.OfUser("u17")
		if len(sessions) != 1 {
			t.Fatalf("%d sessions of u17", len(sessions))
		}
		before := auth.Version(p.opts.Sources)
		p.write(t, line+"user=u17 allow_nets=127.0.0.0/8\ncarol:{PLAIN}c\n")
		eventually(t, "the file", func() bool { return auth.Version(p.opts.Sources) != before })
		sessions[0].Look(t.Context())
		p.clock.forward(session.DefaultRecheck)
		done(c)
		c.MustOK("UID FETCH 1:* (FLAGS)")
		p.idles(c)
		p.write(t, line+changed+"\ncarol:{PLAIN}c\n")
		c.ExpectEOF()
		p.ended(session.ReasonCredentials)
	}
}

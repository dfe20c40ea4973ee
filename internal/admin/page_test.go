package admin_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
	"imapproxy/proxy"
	"imapproxy/telemetry"
)

// crowd is a fake proxy with any number of sessions, and with a past.
type crowd struct {
	fake
	n     int
	asked atomic.Int64 // how often for a session's commands
	mu    sync.Mutex
	kicks []proxy.Kick
}

func (c *crowd) Status() proxy.Status {
	s := c.fake.Status()
	s.Sessions, s.Attachments, s.BackendConns = int64(c.n), map[string]int64{"parked": int64(c.n)}, 0
	return s
}

func (c *crowd) Sessions(q proxy.Filter) (page []proxy.SessionInfo, next string) {
	for i := range c.n {
		s := proxy.SessionInfo{ID: fmt.Sprintf("s%05d", i), User: fmt.Sprintf("user%d@example.org", i/3), Backend: "b1", Why: "rendezvous", Attachment: "parked",
			Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 4000), Listener: "imaps", State: "selected", Started: now(), LastActivity: now()}
		if s.ID <= q.After || q.User != "" && q.User != s.User || q.ID != "" && q.ID != s.ID || q.Client.IsValid() && !q.Client.Contains(s.Client.Addr()) {
			continue
		}
		if len(page) == q.Limit {
			return page, page[len(page)-1].ID
		}
		page = append(page, s)
	}
	return page, ""
}

func (c *crowd) kick(_ context.Context, k proxy.Kick) proxy.Kicked {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kicks = append(c.kicks, k)
	return proxy.Kicked{Count: 1, Users: 1, Known: true, Sessions: []string{k.Session}}
}

// History implements admin.Past: an hour in which sessions came.
func (c *crowd) History(time.Time) admin.History {
	h := admin.History{EverySeconds: 10, DescriptorLimit: 1024, Bill: admin.Bill{BackendProcessMemory: 4 << 20, Formula: admin.Formula,
		Now: admin.Saved{Seconds: 10, LoggedIn: float64(c.n), Connections: 1, Saved: float64(c.n - 1), SavedMemory: int64(c.n-1) * 4 << 20, Logins: 3, BackendLogins: 1, SavedLogins: 2}}}
	for i := range 360 {
		h.Samples = append(h.Samples, admin.Sample{Time: now().Add(time.Duration(i-360) * 10 * time.Second), Sessions: int64(c.n * i / 359), LoggedIn: int64(c.n), Parked: int64(c.n),
			Connections: 1, Logins: 2, FailedLogins: 1, Commands: 5, P50: admin.Times{All: 1.5, Backend: 1}, P99: admin.Times{All: 1200, Resume: 1100}, Descriptors: 77, Memory: 123e6})
	}
	return h
}

func (c *crowd) Events() []telemetry.Line {
	return []telemetry.Line{
		{Time: now(), Level: "warn", Message: "admin: kick", Fields: []telemetry.Field{{Key: "by", Value: "<b>ann</b>"}, {Key: "user", Value: "alice"}}},
		{Time: now(), Level: "info", Message: "reloaded", Fields: []telemetry.Field{{Key: "values", Value: "[limits.per_ip: 1 → 2]"}}},
	}
}

func (c *crowd) Ended() []telemetry.Line {
	line := func(session, user, reason string) telemetry.Line {
		return telemetry.Line{Time: now(), Level: "info", Message: "session ended", Fields: []telemetry.Field{{Key: "session", Value: session}, {Key: "user", Value: user}, {Key: "reason", Value: reason}}}
	}
	return []telemetry.Line{line("e1", "alice", "kicked"), line("e2", "bob", "logout")}
}

func (c *crowd) FailedLogins() (all []telemetry.FailedLogin) {
	for i := range 50 {
		all = append(all, telemetry.FailedLogin{Time: now().Add(-time.Duration(i) * time.Second), Client: netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 3)}), User: "alice", Reason: "bad_password"})
	}
	return append(all, telemetry.FailedLogin{Time: now().Add(-16 * time.Minute), Client: netip.MustParseAddr("198.51.100.1"), User: "late", Reason: "bad_password"})
}

func (c *crowd) SlowCommands() []telemetry.SlowCommand {
	return []telemetry.SlowCommand{{Session: "s00001", User: "user0@example.org", Backend: "b1",
		SessionCommand: telemetry.SessionCommand{Time: now(), Verb: "FETCH", Status: "OK", Took: 7200 * time.Millisecond, ResumeWait: 6 * time.Second, BackendWait: time.Second, TraceID: aTrace}}}
}

// aTrace is a trace's id.
const aTrace = "0af7651916cd43dd8448eb211c80319c"

func (c *crowd) Commands(session string) (all []telemetry.SessionCommand) {
	if session != "s00001" {
		return nil
	}
	n := c.asked.Add(1) // each time there is one more, and the one before is forgotten
	return []telemetry.SessionCommand{{Time: now().Add(time.Duration(n) * time.Second), Verb: "NOOP", Status: "OK", Took: time.Duration(n) * time.Millisecond, BackendWait: time.Millisecond, TraceID: aTrace}}
}

func (c *crowd) Attachments(session string) []telemetry.AttachmentChange {
	if session != "s00001" {
		return nil
	}
	return []telemetry.AttachmentChange{{Time: now().Add(90 * time.Second), Session: session, From: "attached", To: "parked"}, {Time: now(), Session: session, From: "none", To: "attached"}}
}

func (c *crowd) Latest(since time.Time) admin.Latest {
	return admin.Latest{For: now().Sub(since), Commands: 3, Users: []admin.TopUser{{User: "user0@example.org", Backend: "b1", Sessions: 1, Commands: 3}}, Slowest: c.SlowCommands()}
}

// The tokens of a crowd's page.
const operatorsToken, readersToken = "operator-operator-operator", "reader-reader-reader-reader"

// serve serves a crowd's page until the test's end and returns its address.
func (c *crowd) serve(t *testing.T, token, read telemetry.Secret) string {
	t.Helper()
	o := options(&c.fake)
	o.Proxy, o.Past, o.Kick, o.Token, o.ReadToken = c, c, c.kick, token, read
	o.TraceURL = func() string { return "https://traces.example.org/trace/{trace_id}?from=imapproxy" }
	o.Config = func() admin.Config {
		return admin.Config{File: "/etc/imapproxy/config.hcl", Since: now(), Digest: "0123456789ab", Text: "hostname = \"imap.example.org\"\n",
			Disk: &admin.Disk{Digest: "ba9876543210", Changes: []admin.ConfigChange{{Setting: "limits.per_ip"}}, Files: []admin.ChangedFile{}}}
	}
	return serveHandler(t, handler(t, o))
}

// serveHandler serves until the test's end and returns the address.
func serveHandler(t *testing.T, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		_ = s.Close()
		serving.Wait()
	})
	return "http://" + l.Addr().String() + "/"
}

func rowsOf(id string) string { return "document.querySelectorAll('#" + id + " tr').length" }

func text(id string) string { return "document.getElementById('" + id + "').textContent" }

func shown(id string) string {
	return "getComputedStyle(document.getElementById('" + id + "')).display !== 'none'"
}

func contains(t *testing.T, b *imaptest.Browser, id string, parts ...string) {
	t.Helper()
	have := b.Run("document.getElementById('" + id + "').textContent")
	for _, part := range parts {
		if !strings.Contains(have, part) {
			t.Errorf("%s doesn't have %q: %.2000s", id, part, have)
		}
	}
}

// What the page shows with no, few and very many sessions, in a phone's width and a desk's.
func TestThePageWithAnyNumberOfSessions(t *testing.T) {
	b := imaptest.NewBrowser(t)
	for _, n := range []int{0, 3, 50000} {
		c := &crowd{n: n}
		url := c.serve(t, "", "")
		for _, width := range []int{390, 1400} {
			b.Open(url, width)
			b.Await(rowsOf("sessions"), fmt.Sprint(min(n, 100)))
			b.Await(rowsOf("slow"), "1")
			b.Await(text("config-state"), "0123456789ab, its file differs") // the last list
			b.Await("document.getElementById('next').hidden", fmt.Sprint(n <= 100))
			b.Await("document.documentElement.scrollWidth <= innerWidth", "true") // tables scroll, the page doesn't
			b.Await("document.querySelectorAll('#tiles svg polyline').length", "8")
			b.Await("document.querySelector('#tile-sessions polyline').getAttribute('points').split(' ').length", "360")
			contains(t, b, "tiles", fmt.Sprintf("Sessions%d ", n), fmt.Sprintf("without parking: %d", n), "1.5 ms", "client 0, proxy 0, backend 1, resume 0 ms", "of 1024", "123 MB")
			contains(t, b, "bill", fmt.Sprint(n-1))
			contains(t, b, "formula", "memory saved = processes saved", "4.2 MB")
			contains(t, b, "failing", "192.0.2.0/24", "alice", "bad_password")
			contains(t, b, "failing-count", "50 failures")
			contains(t, b, "changes", "by=<b>ann</b>", "limits.per_ip: 1 → 2")
			contains(t, b, "ended", "kicked", "logout")
			contains(t, b, "slow", "FETCH", "7.20 s", "6.00 s")
			contains(t, b, "config", `hostname = "imap.example.org"`)
			b.Await(shown("move"), "false") // there is no token: nothing can be done here
			contains(t, b, "access", "there is no token")
		}
	}
	if b.Run("document.querySelectorAll('#changes b').length") != "0" {
		t.Error("a name in an event was taken for markup")
	}

	// Among very many sessions a search finds a user's; and the last page can be reached.
	b.Run("document.getElementById('user').value = 'user7@example.org'; document.querySelector('#filter button').click()")
	b.Await(rowsOf("sessions"), "3")
	b.Run("document.getElementById('user').value = ''; document.getElementById('client').value = '10.0.195.0/24'; document.querySelector('#filter button').click()")
	b.Await(rowsOf("sessions"), "80")
	b.Run("document.querySelector('#sessions .link').click()")
	b.Await(text("one-id"), "s49920")
	contains(t, b, "one-about", "user16640@example.org", "parked")
	b.Run("document.getElementById('client').value = 'nonsense'; document.querySelector('#filter button').click()")
	b.Await("document.getElementById('error').hidden", "false")
	contains(t, b, "error", "client: want an address or a network")
}

// A session's slow commands stand on its page, and an ended session has one.
func TestThePageOfOneSession(t *testing.T) {
	b := imaptest.NewBrowser(t)
	url := (&crowd{n: 3}).serve(t, "", "")
	b.Open(url+"#session=s00001", 1400)
	b.Await(rowsOf("one-slow"), "1")
	contains(t, b, "one-slow", "FETCH", "7.20 s", "trace")
	if got := b.Run("document.querySelector('#one-slow a').href"); got != "https://traces.example.org/trace/"+aTrace+"?from=imapproxy" {
		t.Errorf("the trace is at %s", got)
	}
	b.Await(rowsOf("one-attachments"), "2")
	contains(t, b, "one-attachments", "noneattached90 s", "attachedparked")
	b.Await(rowsOf("one-commands")+" >= 2", "true") // the page keeps what the proxy has forgotten meanwhile
	contains(t, b, "one-commands", "NOOPOK2.0 ms", "NOOPOK1.0 ms", "trace")
	b.Open("about:blank", 1400)
	b.Open(url+"#session=e1", 1400)
	b.Await(text("one-id"), "e1 (ended)")
	contains(t, b, "one-about", "kicked: ")
}

// Without a token the page shows no state; with a reader's token it shows all and has no commands; with the operator's token a command is
// carried out once its dry run was shown and confirmed.
func TestThePageAsksForATokenAndHasCommandsForOperators(t *testing.T) {
	b := imaptest.NewBrowser(t)
	c := &crowd{n: 3}
	url := c.serve(t, operatorsToken, readersToken)
	enter := func(token string) {
		b.Run("document.getElementById('token').value = '" + token + "'; document.querySelector('#login button').click()")
	}
	for _, width := range []int{390, 1400} {
		b.Run("try { sessionStorage.clear() } catch (e) {}")
		b.Open("about:blank", width)
		b.Open(url, width)
		b.Run("sessionStorage.clear()")
		b.Open(url, width)
		b.Await(text("error"), "A token is needed.")
		b.Await("document.title", "? imapproxy")
		enter("wrong-wrong-wrong-wrong")
		b.Await(text("error"), "The token is wrong.")
		if b.Run(rowsOf("sessions")) != "0" || b.Run(shown("move")) != "false" || b.Run(shown("past")) != "false" {
			t.Error("without a token something is shown")
		}
		enter(readersToken)
		b.Await(rowsOf("sessions"), "3")
		b.Await(text("access"), "Commands are not available here: this token may only read. Enter the operator's token")
		if b.Run(shown("move")) != "false" || b.Run("[...document.querySelectorAll('.verbs button')].some((e) => e.checkVisibility())") != "false" {
			t.Error("a reader sees commands")
		}
	}
	b.Run("sessionStorage.clear()")
	b.Open("about:blank", 1400)
	b.Open(url, 1400)
	b.Await(text("error"), "A token is needed.")
	enter(operatorsToken)
	b.Await(shown("move"), "true")
	b.Await(rowsOf("sessions"), "3")
	kick := func() {
		b.Run("[...document.querySelectorAll('#sessions button')].find((e) => e.textContent === 'kick').click()")
	}
	did := func(want ...proxy.Kick) {
		t.Helper()
		c.mu.Lock()
		defer c.mu.Unlock()
		if !slices.Equal(c.kicks, want) {
			t.Errorf("%+v, want %+v", c.kicks, want)
		}
	}
	dry, wet := proxy.Kick{Session: "s00000", DryRun: true}, proxy.Kick{Session: "s00000"}
	kick()
	b.Await("document.getElementById('confirm').open", "true")
	contains(t, b, "confirm-dry", `"dry_run": true`, `"count": 1`)
	did(dry)
	b.Run("document.getElementById('confirm-no').click()")
	b.Await("document.getElementById('confirm').open", "false")
	kick()
	b.Await("document.getElementById('confirm').open", "true")
	did(dry, dry)
	b.Run("document.getElementById('confirm-yes').click()")
	b.Await("document.getElementById('done').className", "well")
	did(dry, dry, wet)
	// A command that is refused says why.
	b.Run("document.getElementById('move-user').value = 'alice'; document.getElementById('move-to').value = 'b2'; document.querySelector('#move button').click()")
	b.Await("document.getElementById('done').className", "error")
	if b.Run("performance.getEntriesByType('resource').every((e) => e.name.startsWith(location.origin))") != "true" {
		t.Error("the page asks other servers")
	}
}

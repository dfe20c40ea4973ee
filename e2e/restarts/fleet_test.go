package restarts

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// long says that the tests take their time, with as many clients as a machine bears (make restarts).
func long() bool { return os.Getenv("RESTARTS_LONG") != "" }

// sizes are how many clients a test has.
type sizes struct {
	users, busy, idle int
	largest           int // octets of a message
	idleFor           time.Duration
	think             time.Duration // of busy clients between two commands, on average
}

func sizesOf(short sizes) sizes {
	if long() {
		return sizes{users: 100, busy: 500, idle: 1500, largest: 5 << 20, idleFor: 2 * time.Minute, think: time.Second}
	}
	return short
}

// startFleet connects the clients and has them work.
func startFleet(t testing.TB, p *proxy, s *servers.Server, z sizes) *fleet {
	t.Helper()
	f := &fleet{t: t, p: p, s: s, users: z.users, end: make(chan struct{}), done: make(chan struct{})}
	for i := range z.users {
		c := imaptest.Dial(t, s.Addr)
		c.Login(s.User(i+1), servers.Password)
		_ = c.Cmd("CREATE Trash") // Dovecot has made it
		c.MustOK("LOGOUT")
	}
	var running sync.WaitGroup
	for i := range z.busy + z.idle {
		how := p.ways(i)
		addr := p.addr
		if how.tls != nil {
			addr = p.tls
		}
		c := &client{addr: addr, how: how, user: s.User(i%z.users + 1), n: i, largest: z.largest, think: z.think, asks: i%2 == 0, rnd: rand.New(rand.NewPCG(uint64(i), 1)), appended: map[string]bool{}, hangs: f.hangs}
		if err := c.connect(); err != nil {
			t.Fatal(err)
		}
		if i < z.busy {
			f.busy = append(f.busy, c)
			running.Go(func() { c.work(f.end) })
		} else {
			f.idle = append(f.idle, c)
			running.Go(func() { c.idle(f.end, z.idleFor) })
		}
	}
	go func() { running.Wait(); close(f.done) }() // ends with the clients, which end does
	t.Cleanup(func() {
		f.stop()
		for _, c := range f.all() {
			_ = c.conn.Close()
		}
	})
	f.worked(3)
	return f
}

// hangs keeps what the proxy does when a client gets no answer for long: what it says of the user's sessions, and all its goroutines.
func (f *fleet) hangs(c *client) {
	f.hung.Do(func() {
		sessions, err := f.p.get("/v1/sessions?user=" + c.user)
		stacks, err2 := f.p.get("/debug/pprof/goroutine?debug=1")
		f.hanging = fmt.Sprintf("client %d (%s): sessions %s %v\ngoroutines %s %v", c.n, c.user, sessions, err, stacks, err2)
	})
}

// logsHang logs what hangs has kept, and what the proxy's log has of the clients' users.
func (f *fleet) logsHang() {
	if f.hanging == "" {
		return
	}
	f.t.Log(f.hanging)
	f.t.Logf("the proxy's log:\n%s", f.p.Output())
}

func (f *fleet) all() []*client { return slices.Concat(f.busy, f.idle) }

// stop ends the clients' work.
func (f *fleet) stop() {
	select {
	case <-f.end:
	default:
		close(f.end)
	}
	<-f.done
}

// worked waits until each busy client that is still there has had so many answers since.
func (f *fleet) worked(n int64) {
	f.t.Helper()
	before := make([]int64, len(f.busy))
	for i, c := range f.busy {
		before[i] = c.answers.Load()
	}
	eventually(f.t, "the clients' work", func() error {
		for i, c := range f.busy {
			if c.ended.Load() == nil && c.answers.Load() < before[i]+n {
				return fmt.Errorf("client %d has had %d answers", i, c.answers.Load()-before[i])
			}
		}
		return nil
	})
}

// through does something to the backend, and waits until all clients go on.
func (f *fleet) through(name string, do func()) {
	f.t.Helper()
	logins := f.p.metric(f.t, "imapproxy_backend_login_duration_seconds_count")
	lost := f.p.metric(f.t, "imapproxy_recovery_duration_seconds_count")
	stop, counted := make(chan struct{}), make(chan float64)
	go func() { // counts logins per second; ends with stop
		highest, last := 0.0, logins
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				counted <- max(highest, f.p.metric(f.t, "imapproxy_backend_login_duration_seconds_count")-last)
				return
			case <-tick.C:
				n := f.p.metric(f.t, "imapproxy_backend_login_duration_seconds_count")
				highest, last = max(highest, n-last), n
			}
		}
	}()
	o := outage{name: name, begin: time.Now()}
	do()
	o.over = time.Now()
	f.worked(3)
	if long() {
		f.settles()
	}
	o.settled = time.Now()
	close(stop)
	f.outages = append(f.outages, o)
	logins = f.p.metric(f.t, "imapproxy_backend_login_duration_seconds_count") - logins
	lost = f.p.metric(f.t, "imapproxy_recovery_duration_seconds_count") - lost
	f.logins, f.lost = f.logins+logins, f.lost+lost
	f.t.Logf("%s: %v; %.0f connections lost, %.0f logins at the backends, %.0f in the busiest second", name, o.over.Sub(o.begin).Round(time.Millisecond), lost, logins, <-counted)
}

// settles waits until no session has lost its connection for longer than a server that is stopped goes on with those
// that it has.
func (f *fleet) settles() {
	const goesOn = 12 * time.Second
	last, since := -1.0, time.Now()
	eventually(f.t, "no session loses its connection", func() error {
		if n := f.p.metric(f.t, "imapproxy_recovery_duration_seconds_count"); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) < goesOn {
			return errNotYet
		}
		return nil
	})
}

// ends stops the clients and checks what has become of them and of their messages.
func (f *fleet) ends() {
	f.t.Helper()
	f.stop()
	stored, unsure, refused, bugs, asked := map[string]bool{}, map[string]bool{}, 0, 0, 0
	var cuts, views []string
	for _, c := range f.all() {
		if err := c.ended.Load(); err != nil {
			f.t.Errorf("client %d (%s): %v", c.n, c.user, *err)
		}
		refused, bugs, asked = refused+c.refused, bugs+c.bugs, asked+c.askViews
		cuts, views = append(cuts, c.cuts...), append(views, c.views...)
		for id, ok := range c.appended {
			if ok {
				stored[id] = true
			} else {
				unsure[id] = true
			}
		}
	}
	found := map[string]int{}
	for i := range f.users {
		c := imaptest.Dial(f.t, f.s.Addr)
		c.Login(f.s.User(i+1), servers.Password)
		c.MustOK("EXAMINE INBOX")
		for _, r := range c.MustOK("UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])").Untagged {
			for _, l := range r.Literals {
				found[strings.TrimSpace(strings.TrimPrefix(string(l.Data), "Subject: "))]++
			}
		}
		c.MustOK("LOGOUT")
	}
	for id := range stored {
		if found[id] != 1 {
			f.t.Errorf("message %s was stored, and is there %d times", id, found[id])
		}
	}
	for id := range unsure {
		if found[id] > 1 {
			f.t.Errorf("message %s is there %d times", id, found[id])
		}
	}
	f.t.Logf("%d APPENDs were answered OK, %d not; %d commands were answered NO", len(stored), len(unsure), refused)
	if bugs > 0 {
		f.explained(bugs)
	}
	for _, cut := range cuts {
		f.t.Logf("ended within a literal: %s", cut)
	}
	for _, v := range views {
		f.t.Logf("view lost: %s", v)
	}
	if len(views) > 0 {
		f.t.Logf("views lost by the half of the clients that asks for UIDs as mail programs do: %d, by the others: %d", asked, len(views)-asked)
	}
	if lost := f.p.metric(f.t, "imapproxy_sessions_closed_total", `reason="view_lost"`); float64(len(views)) > lost {
		f.t.Errorf("%d sessions were ended, of which %.0f since their views couldn't be found", len(views), lost)
	}
	f.figures()
	f.logsHang()
}

// explained fails unless a server's log says why it has answered commands by NO [SERVERBUG]: a Dovecot may find what a
// process that was killed was about to write, or what is still locked by one that hangs.
func (f *fleet) explained(bugs int) {
	f.t.Helper()
	var why []string
	for _, log := range f.p.logs {
		b, err := os.ReadFile(log)
		if err != nil {
			f.t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, ": Error: ") {
				why = append(why, strings.TrimSpace(line))
			}
		}
	}
	if len(why) == 0 {
		f.t.Errorf("%d commands were answered NO [SERVERBUG], and no server's log has an error", bugs)
	}
	for _, line := range why[max(0, len(why)-10):] {
		f.t.Logf("a server's error: %s", line)
	}
}

// quantiles describes durations.
func quantiles(all []time.Duration) string {
	slices.Sort(all)
	n := len(all)
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("%d: p50 %v, p99 %v, longest %v", n, all[n/2].Round(time.Millisecond), all[n*99/100].Round(time.Millisecond), all[n-1].Round(time.Millisecond))
}

// lostViews counts why views weren't found.
func (f *fleet) lostViews() map[string]int {
	why := map[string]int{}
	for line := range strings.Lines(f.p.Output()) {
		if _, said, ok := strings.Cut(line, "the messages that the client counts can't be found"); ok {
			_, said, _ = strings.Cut(said, "error=")
			why[strings.TrimSpace(said)]++
		}
	}
	return why
}

// figures logs how long the commands took that an outage has met, over the outage's own length, and what became of
// the connections that were lost.
func (f *fleet) figures() {
	f.t.Helper()
	var all []time.Duration
	for _, o := range f.outages {
		var over, after []time.Duration
		for _, c := range f.busy {
			for _, w := range c.slow {
				if w.begun.Before(o.over) && w.end.After(o.begin) {
					begun := w.begun
					if begun.Before(o.begin) {
						begun = o.begin
					}
					over = append(over, w.end.Sub(begun)-o.over.Sub(o.begin))
				} else if !w.begun.Before(o.over) && w.begun.Before(o.settled) {
					after = append(after, w.end.Sub(w.begun))
				}
			}
		}
		all = append(all, over...)
		length := o.over.Sub(o.begin).Round(time.Millisecond)
		f.t.Logf("%s, %v: over its length, %s; commands after it of %v and more, %s", o.name, length, quantiles(over), slowFrom, quantiles(after))
	}
	lost := f.p.metric(f.t, "imapproxy_recovery_duration_seconds_count")
	f.t.Logf("%.0f connections lost under sessions: ok %.0f, view_lost %.0f; given up %.0f (network %.0f); parked resumes ok %.0f", lost,
		f.p.metric(f.t, "imapproxy_recovery_duration_seconds_count", `outcome="ok"`), f.p.metric(f.t, "imapproxy_recovery_duration_seconds_count", `outcome="view_lost"`),
		f.p.metric(f.t, "imapproxy_backend_stalls_total"), f.p.metric(f.t, "imapproxy_backend_stalls_total", `evidence="network"`),
		f.p.metric(f.t, "imapproxy_resume_duration_seconds_count", `outcome="ok"`))
	for why, n := range f.lostViews() {
		f.t.Logf("%d views lost: %s", n, why)
	}
	page, err := f.p.get("/metrics")
	if err != nil {
		f.t.Fatal(err)
	}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "imapproxy_sessions_closed_total{") || strings.HasPrefix(line, "imapproxy_views_lost_total{") {
			f.t.Log(strings.TrimSpace(line))
		}
	}
	if len(f.idle) == 0 { // others log in for watches, and when their clients' IDLE ends
		f.t.Logf("%.0f logins for %.0f lost connections: %.2f each", f.logins, f.lost, f.logins/f.lost)
	}
	f.t.Logf("all outages: stalls over their own length, %s", quantiles(all))
}

package e2e

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
)

// service is the backends' in Consul.
const service = "imap"

// A fleet is two Dovecots on one store, known to a real Consul, and a proxy
// that found them there.
type fleet struct {
	t      testing.TB
	consul *consultest.Agent
	dove   map[string]*servers.Server // by id: d1, d2
	proxy  *runningProxy
}

// newFleet starts it; routing is further lines of the proxy's routing block.
func newFleet(t testing.TB, o proxyOptions) *fleet {
	t.Helper()
	servers.Real(t)
	mail := servers.DovecotMail(t)
	f := &fleet{t: t, consul: consultest.Start(t), dove: map[string]*servers.Server{}}
	for _, id := range []string{"d1", "d2"} {
		f.dove[id] = servers.StartDovecot(t, servers.DovecotOptions{Name: id, Mail: mail})
	}
	f.register()
	o.Consul, o.Service = f.consul.Address(), service
	f.proxy = startProxy(t, o)
	f.eventually("both backends up", f.states("up", "up"))
	return f
}

// register tells Consul of both, healthy until their TTL check says otherwise.
func (f *fleet) register() {
	f.t.Helper()
	for id, s := range f.dove {
		registerBackend(f.t, f.consul, id, s.Addr)
	}
}

// registerBackend tells Consul of one.
func registerBackend(t testing.TB, consul *consultest.Agent, id, addr string) {
	t.Helper()
	host, p, _ := strings.Cut(addr, ":")
	number, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	consul.Register(consultest.Service{
		ID: id, Name: service, Address: host, Port: number,
		Check: &consultest.Check{TTL: "30m", Status: "passing"},
	})
}

func (f *fleet) eventually(what string, try func() error) {
	f.t.Helper()
	f.proxy.eventually(f.t, what, try)
}

// backendRow has the fields of /v1/backends that the tests read.
type backendRow struct {
	ID, State string
	Kept      bool
}

func (f *fleet) backends() (map[string]backendRow, error) {
	var all struct{ Backends []backendRow }
	if err := f.proxy.get("/v1/backends", &all); err != nil {
		return nil, err
	}
	rows := map[string]backendRow{}
	for _, b := range all.Backends {
		rows[b.ID] = b
	}
	return rows, nil
}

// states checks the states of d1 and d2.
func (f *fleet) states(d1, d2 string) func() error {
	return func() error {
		rows, err := f.backends()
		if err == nil && (rows["d1"].State != d1 || rows["d2"].State != d2) {
			err = fmt.Errorf("want d1 %s and d2 %s, have %+v", d1, d2, rows)
		}
		return err
	}
}

// sessionRow has the fields of /v1/sessions that the tests read.
type sessionRow struct {
	ID, User, Backend, Why string
	TLS                    bool
}

// sessions are one user's, or all users'.
func (f *fleet) sessions(user string) []sessionRow {
	f.t.Helper()
	var all []sessionRow
	query := url.Values{"limit": {"100"}}
	if user != "" {
		query.Set("user", user)
	}
	for {
		var page struct {
			Sessions []sessionRow
			Next     string
		}
		if err := f.proxy.get("/v1/sessions?"+query.Encode(), &page); err != nil {
			f.t.Fatal(err)
		}
		all = append(all, page.Sessions...)
		if page.Next == "" {
			return all
		}
		query.Set("after", page.Next)
	}
}

// backendOf is the one backend that all of a user's sessions are on.
func (f *fleet) backendOf(user string) string {
	f.t.Helper()
	all := f.sessions(user)
	if len(all) == 0 {
		f.t.Fatalf("%s has no session", user)
	}
	for _, s := range all {
		if s.Backend != all[0].Backend {
			f.t.Fatalf("%s has sessions on %s and on %s", user, all[0].Backend, s.Backend)
		}
	}
	return all[0].Backend
}

// login opens a session, by implicit TLS for one user and STARTTLS for the next.
func (f *fleet) login(i int) *imaptest.Client {
	f.t.Helper()
	c := f.connect(i)
	c.Login(servers.User(i), servers.Password)
	return c
}

func (f *fleet) connect(i int) *imaptest.Client {
	f.t.Helper()
	if i%2 == 0 {
		return imaptest.DialTLS(f.t, f.proxy.TLS, f.proxy.Cert.Client)
	}
	return imaptest.DialStartTLS(f.t, f.proxy.StartTLS, f.proxy.Cert.Client)
}

// spread logs users first to last in, and more if they are at one backend, and says who is where.
func (f *fleet) spread(first, last int) (open map[string]*imaptest.Client, on map[string][]int) {
	f.t.Helper()
	open, on = map[string]*imaptest.Client{}, map[string][]int{}
	for i := first; i <= last || (len(on["d1"]) == 0 || len(on["d2"]) == 0) && i < first+18; i++ { // where users go depends on the node's UUID
		user := servers.User(i)
		open[user] = f.login(i)
		open[user].MustOK("SELECT INBOX")
		id := f.backendOf(user)
		on[id] = append(on[id], i)
	}
	if len(on["d1"]) == 0 || len(on["d2"]) == 0 {
		f.t.Fatalf("%d users aren't spread over both backends: %v", last-first+1, on)
	}
	return open, on
}

// alive checks that no session was cut off.
func alive(open map[string]*imaptest.Client) {
	for _, c := range open {
		c.MustOK("NOOP")
	}
}

// maint runs `consul maint`, as an operator does.
func (f *fleet) maint(args ...string) {
	f.t.Helper()
	consul := os.Getenv("CONSUL_BIN")
	if consul == "" {
		consul = "consul"
	}
	args = append([]string{"maint", "-http-addr=http://" + f.consul.Address()}, args...)
	if out, err := exec.Command(consul, args...).CombinedOutput(); err != nil {
		f.t.Fatalf("consul %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// The first of the promises: users log in both ways, stick to their backend, maintenance
// drains one without disconnecting clients, and the command line shows it.
func TestUsersStickAndMaintenanceDrains(t *testing.T) {
	t.Parallel()
	f := newFleet(t, proxyOptions{})
	open, on := f.spread(1, 12)
	for i := 1; i <= 12; i++ {
		was := f.backendOf(servers.User(i))
		again := f.login(i)
		if is := f.backendOf(servers.User(i)); is != was {
			t.Errorf("%s was on %s and came back to %s", servers.User(i), was, is)
		}
		again.MustOK("LOGOUT")
	}

	f.maint("-enable", "-service=d1", "-reason=kernel")
	f.eventually("draining", f.states("draining", "up"))
	alive(open)
	if out := f.proxy.command(t, "backends"); !strings.Contains(out, "draining") || !strings.Contains(out, "kernel") {
		t.Errorf("imapproxy backends doesn't show the drain and its reason:\n%s", out)
	}
	if out := f.proxy.command(t, "status"); !strings.Contains(out, "draining") {
		t.Errorf("imapproxy status doesn't show the drain:\n%s", out)
	}
	if out := f.proxy.command(t, "sessions"); !strings.Contains(out, servers.User(1)) {
		t.Errorf("imapproxy sessions doesn't show %s:\n%s", servers.User(1), out)
	}
	if out := f.proxy.command(t, "sessions", "--json"); !strings.HasPrefix(strings.TrimSpace(out), "{") {
		t.Errorf("imapproxy sessions --json:\n%s", out)
	}
	// Pinned users stay, also with a new session; new ones go elsewhere.
	stays := on["d1"][0]
	more := f.login(stays)
	if is := f.backendOf(servers.User(stays)); is != "d1" {
		t.Errorf("a pinned user's new session went to %s", is)
	}
	more.MustOK("LOGOUT")
	for i := 21; i <= 28; i++ {
		c := f.login(i)
		if is := f.backendOf(servers.User(i)); is != "d2" {
			t.Errorf("%s is new and went to %s, which drains", servers.User(i), is)
		}
		c.MustOK("LOGOUT")
	}
	alive(open)

	f.maint("-disable", "-service=d1")
	f.eventually("up again", f.states("up", "up"))
	f.maint("-enable", "-reason=node") // of the node: both at once
	f.eventually("the node draining", f.states("draining", "draining"))
	alive(open)
	f.login(stays).MustOK("LOGOUT")
	f.maint("-disable")
	f.eventually("the node up again", f.states("up", "up"))
	alive(open)
}

// Whatever happens to the agent, the last good set of backends stays in use and
// the watch comes back by itself.
func TestConsulInTrouble(t *testing.T) {
	t.Parallel()
	f := newFleet(t, proxyOptions{})
	open, _ := f.spread(1, 8)
	next := 30
	// works: who is there stays, and who is new gets in.
	works := func(when, d1 string) {
		t.Helper()
		alive(open)
		for range 2 {
			next++
			c := f.connect(next)
			if a := c.TryLogin(servers.User(next), servers.Password); !a.OK() {
				t.Errorf("%s: %s", when, a.Tagged)
			}
			c.MustOK("LOGOUT")
		}
		if err := f.states(d1, "up")(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	// watched: a change in Consul is seen again.
	watched := func(when string) {
		t.Helper()
		f.consul.Maintain("d1", "a look")
		f.eventually("watching again after "+when, f.states("draining", "up"))
		f.consul.EndMaintenance("d1")
		f.eventually("up again after "+when, f.states("up", "up"))
	}

	f.consul.Stop()
	works("the agent hangs", "up")
	f.consul.Continue()
	watched("it hung")

	f.consul.Kill()
	works("the agent is gone", "up")
	f.consul.StartAgain()
	works("the agent has forgotten everything", "up")
	f.register()
	watched("a restart")

	// One after the other: the first leaves, which is believed. The second would
	// leave nothing, which isn't.
	f.consul.Deregister("d1")
	f.eventually("one gone", f.states("down", "up"))
	f.consul.Deregister("d2")
	works("the catalogue is empty", "down")
	f.register()
	watched("it was emptied")
}

// A backend that flaps, with its server well: sessions on it don't notice, and no user who is
// pinned to it moves.
func TestFlappingBackendDisturbsNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, proxyOptions{})
	open, on := f.spread(1, 8)
	for range 10 {
		f.consul.TTL("service:d1", "critical")
		f.eventually("down", f.states("down", "up"))
		f.consul.TTL("service:d1", "passing")
		f.eventually("usable", func() error { // draining: new users are kept from it until it has been up for flap_damp
			if f.states("draining", "up")() == nil {
				return nil
			}
			return f.states("up", "up")()
		})
	}
	f.eventually("damped", f.states("draining", "up"))
	alive(open)
	for _, i := range on["d1"] {
		c := f.login(i)
		if is := f.backendOf(servers.User(i)); is != "d1" {
			t.Errorf("%s moved to %s while sessions of his were on d1", servers.User(i), is)
		}
		c.MustOK("LOGOUT")
	}
}

// Half of the fleet really goes: the sessions of its users go on at the other half, where new logins find their mail as well. And when
// Consul says that all of it is gone, it isn't believed.
func TestHalfTheFleetGoneAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, proxyOptions{Routing: `failover_after = "1s"`})
	open, on := f.spread(1, 8)
	for _, i := range on["d1"] {
		c := open[servers.User(i)]
		if a := c.Literal("APPEND INBOX ", message("before"), ""); !a.OK() {
			t.Fatal(a)
		}
	}

	// A false alarm: both critical at once is more than panic_threshold.
	f.consul.TTL("service:d1", "critical")
	f.eventually("one down", f.states("down", "up"))
	f.consul.TTL("service:d1", "passing")
	f.eventually("both up", f.states("up", "up"))
	f.maintainBothCritical()
	alive(open)
	f.login(41).MustOK("LOGOUT")
	f.login(42).MustOK("LOGOUT")
	f.consul.TTL("service:d1", "passing")
	f.consul.TTL("service:d2", "passing")
	f.eventually("both up", f.states("up", "up"))

	// And a true one.
	f.dove["d1"].Process.Stop()
	f.consul.TTL("service:d1", "critical")
	f.eventually("half down", f.states("down", "up"))
	alive(open)
	for _, i := range on["d1"] {
		if at := f.backendOf(servers.User(i)); at != "d2" {
			t.Errorf("%s is at %s", servers.User(i), at)
		}
	}
	for _, i := range on["d1"] {
		var c *imaptest.Client
		f.eventually("failed over", func() error {
			c = f.connect(i)
			if a := c.TryLogin(servers.User(i), servers.Password); !a.OK() {
				if a.Tagged.Code() != "UNAVAILABLE" {
					t.Fatalf("while the backend is down: %s", a.Tagged)
				}
				_ = c.Close() // the next attempt is another connection
				return fmt.Errorf("%s", a.Tagged)
			}
			return nil
		})
		f.eventually("on the other backend alone", func() error {
			for _, s := range f.sessions(servers.User(i)) {
				if s.Backend == "d1" {
					return fmt.Errorf("%+v", s)
				}
			}
			return nil
		})
		r, _ := c.MustOK("STATUS INBOX (MESSAGES)").Find("STATUS")
		if ok, _ := imaptest.Match("* STATUS INBOX (MESSAGES 1)", r); !ok {
			t.Errorf("%s on the other backend: %s", servers.User(i), r)
		}
	}
}

// maintainBothCritical makes Consul say that both are critical, which takes two
// steps there. The second goes over the threshold: not believed.
func (f *fleet) maintainBothCritical() {
	f.t.Helper()
	f.consul.TTL("service:d1", "critical")
	f.consul.TTL("service:d2", "critical")
	f.eventually("kept by the panic threshold", func() error {
		rows, err := f.backends()
		if err != nil {
			return err
		}
		for _, b := range rows {
			if b.Kept && b.State != "down" {
				return nil
			}
		}
		return fmt.Errorf("none is kept: %+v", rows)
	})
}

// With separate storage users go where their placement says and nowhere else.
func TestSeparateStorageFollowsPlacements(t *testing.T) {
	t.Parallel()
	f := newFleet(t, proxyOptions{Storage: "separate"})
	placed := map[int]string{1: "d1", 2: "d2", 3: "d2"}
	for i, id := range placed {
		f.consul.PutKV("imapproxy/placement/"+servers.User(i), id)
	}
	for i, id := range placed {
		c := f.login(i)
		if is := f.backendOf(servers.User(i)); is != id {
			t.Errorf("%s is placed on %s and was sent to %s", servers.User(i), id, is)
		}
		c.MustOK("LOGOUT")
	}
	if a := f.connect(4).TryLogin(servers.User(4), servers.Password); a.Tagged.Code() != "UNAVAILABLE" {
		t.Errorf("without a placement: %s", a.Tagged)
	}
	f.dove["d1"].Process.Stop()
	if a := f.connect(1).TryLogin(servers.User(1), servers.Password); a.Tagged.Code() != "UNAVAILABLE" {
		t.Errorf("his backend is down: %s", a.Tagged)
	}
	f.login(2).MustOK("LOGOUT")
}

package discovery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest/consultest"
	"imapproxy/routing"
)

// watching runs a Consul source for the service "imap" of an agent.
func watching(t *testing.T, a *consultest.Agent, change func(*ConsulOptions)) (*recorder, *logBuffer) {
	t.Helper()
	o := ConsulOptions{Address: a.Address(), Service: "imap", MaxBackoff: time.Second}
	if change != nil {
		change(&o)
	}
	tel, log := logged(t)
	c, err := NewConsul(o, tel)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	background(t, func(ctx context.Context) error { return c.Run(ctx, r.apply) })
	return r, log
}

// instance is a backend as it would register itself; its TTL check passes.
func instance(id string) consultest.Service {
	return consultest.Service{Name: "imap", ID: id, Address: "192.0.2.1", Port: 143,
		Check: &consultest.Check{TTL: "1h", Status: "passing"}}
}

func TestConsulIsFollowed(t *testing.T) {
	a := consultest.Start(t)
	a.Register(instance("b1"))
	r, _ := watching(t, a, func(o *ConsulOptions) { o.Policy.ServerNames = []string{"192.0.2.1", "*.example.org"} })
	b := r.waitFleet(t, "b1").Backends[0]
	if b.Address != "192.0.2.1:143" || b.Weight != 1 || b.Node != "dev1" || b.Datacenter != "dc1" {
		t.Errorf("the backend is %+v", b)
	}

	// join, in another order than their ids'
	a.Register(instance("b3"))
	a.Register(instance("b2"))
	r.waitFleet(t, "b1 b2 b3")

	// leave
	a.Deregister("b1")
	r.waitFleet(t, "b2 b3")

	// critical and back
	a.TTL("service:b2", "critical")
	s := r.waitFleet(t, "b2=down b3")
	if reason := s.Backends[0].Reason; !strings.Contains(reason, "critical") {
		t.Errorf("the reason is %q", reason)
	}
	a.TTL("service:b2", "passing")
	r.waitFleet(t, "b2 b3")

	// maintenance on and off; one that is stopped meanwhile is down
	a.Maintain("b3", "new disks")
	s = r.waitFleet(t, "b2 b3=draining")
	if reason := s.Backends[1].Reason; !strings.Contains(reason, "new disks") {
		t.Errorf("the reason is %q", reason)
	}
	a.TTL("service:b3", "critical")
	r.waitFleet(t, "b2 b3=down")
	a.TTL("service:b3", "passing")
	r.waitFleet(t, "b2 b3=draining")
	a.EndMaintenance("b3")
	r.waitFleet(t, "b2 b3")

	// of the whole machine
	a.MaintainNode("reboot")
	r.waitFleet(t, "b2=draining b3=draining")
	a.EndNodeMaintenance()
	r.waitFleet(t, "b2 b3")

	// weights, for both healthy states
	heavy := instance("b2")
	heavy.Weights = &consultest.Weights{Passing: 30, Warning: 4}
	a.Register(heavy)
	weightIs := func(w int) func(routing.Snapshot) bool {
		return func(s routing.Snapshot) bool { return len(s.Backends) == 2 && s.Backends[0].Weight == w }
	}
	r.wait(t, "weight 30", weightIs(30))
	a.TTL("service:b2", "warning")
	if s := r.wait(t, "weight 4", weightIs(4)); s.Backends[0].State != routing.Up {
		t.Errorf("a warning makes it %v", s.Backends[0].State)
	}

	// tags and meta
	heavy.Tags = []string{"ssd", "eu"}
	heavy.Meta = map[string]string{"tls": "implicit", "server_name": "b2.example.org"}
	a.Register(heavy)
	s = r.wait(t, "tags", func(s routing.Snapshot) bool { return len(s.Backends) == 2 && len(s.Backends[0].Tags) == 2 })
	if b := s.Backends[0]; !slices.Equal(b.Tags, []string{"eu", "ssd"}) || b.TLS != "implicit" || b.ServerName != "b2.example.org" {
		t.Errorf("the backend is %+v", b)
	}
	heavy.Meta["tls"] = "ssl3"
	a.Register(heavy)
	s = r.waitFleet(t, "b2=down b3")
	if reason := s.Backends[0].Reason; !strings.Contains(reason, "ssl3") {
		t.Errorf("the reason is %q", reason)
	}
}

func TestATCPCheckTakesABackendAwayWhenItEnds(t *testing.T) {
	a := consultest.Start(t)
	server := imapServer(t, "* OK ready")
	s := instance("b1")
	s.Address, s.Port = server.host, server.port
	s.Check = &consultest.Check{TCP: server.address, Interval: "100ms"}
	a.Register(s)
	r, _ := watching(t, a, nil)
	r.waitFleet(t, "b1") // critical until its first run
	server.close()
	r.waitFleet(t, "b1=down")
}

func TestOnlyInstancesWithAllTagsCount(t *testing.T) {
	a := consultest.Start(t)
	for id, tags := range map[string][]string{"b1": {"eu"}, "b2": {"eu", "blue"}, "b3": {"blue"}} {
		s := instance(id)
		s.Tags = tags
		a.Register(s)
	}
	r, _ := watching(t, a, func(o *ConsulOptions) { o.Tags = []string{"blue", "eu"} })
	r.waitFleet(t, "b2")
}

func TestWithoutAnIdOfItsOwnTheNodesNameIsIt(t *testing.T) {
	a := consultest.Start(t)
	s := instance("")
	s.Address = ""
	a.Register(s)
	r, _ := watching(t, a, nil)
	b := r.waitFleet(t, "dev1").Backends[0]
	if b.Address != "127.0.0.1:143" {
		t.Errorf("without an address of its own it is at %s", b.Address)
	}
}

// routed is a router fed by Consul, as in the product.
func routed(t *testing.T, a *consultest.Agent, change func(*ConsulOptions)) (*routing.Router, *recorder, *logBuffer) {
	t.Helper()
	tel, log := logged(t)
	router, err := routing.New(routing.Options{Storage: routing.Shared, Telemetry: tel})
	if err != nil {
		t.Fatal(err)
	}
	o := ConsulOptions{Address: a.Address(), Service: "imap", MaxBackoff: time.Second}
	if change != nil {
		change(&o)
	}
	c, err := NewConsul(o, tel)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	background(t, func(ctx context.Context) error {
		return c.Run(ctx, func(s routing.Snapshot) { router.Apply(s); r.apply(s) })
	})
	return router, r, log
}

// fleetOf returns the router's backends and their states.
func fleetOf(r *routing.Router) string {
	var backends []routing.Backend
	for _, b := range r.Backends() {
		backends = append(backends, b.Backend)
	}
	return describe(backends)
}

func TestARestartedAgentIsFollowedAgainAndLosesNothing(t *testing.T) {
	a := consultest.Start(t)
	a.Register(instance("b1"))
	a.Register(instance("b2"))
	for range 20 { // the index is well above where a new agent begins
		a.PutKV("x", "y")
	}
	a.Register(instance("b3"))
	router, r, log := routed(t, a, nil)
	r.waitFleet(t, "b1 b2 b3")

	a.Restart()
	log.wait(t, "keeping the last good set") // it answers with an empty list
	if got := fleetOf(router); got != "b1 b2 b3" {
		t.Errorf("after the agent forgot everything the fleet is %q", got)
	}
	if _, err := router.Pick("ann", ""); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"b1", "b2", "b4"} {
		a.Register(instance(id))
	}
	r.waitFleet(t, "b1 b2 b4") // long before the old index would have come by
	log.wait(t, "answers again")
}

func TestAnAgentThatEndedAndCameBack(t *testing.T) {
	a := consultest.Start(t)
	a.Register(instance("b1"))
	router, r, log := routed(t, a, nil)
	r.waitFleet(t, "b1")
	a.Kill()
	log.wait(t, "doesn't answer")
	if got := fleetOf(router); got != "b1" {
		t.Errorf("without an agent the fleet is %q", got)
	}
	a.StartAgain()
	a.Register(instance("b2"))
	r.waitFleet(t, "b2")
}

func TestAStoppedAgentIsGivenUpAndFollowedWhenItGoesOn(t *testing.T) {
	a := consultest.Start(t)
	a.Register(instance("b1"))
	router, r, log := routed(t, a, func(o *ConsulOptions) { o.Wait, o.Slack = 500*time.Millisecond, 500*time.Millisecond })
	r.waitFleet(t, "b1")
	a.Stop()
	log.wait(t, "doesn't answer")
	if got := fleetOf(router); got != "b1" {
		t.Errorf("while the agent is stopped the fleet is %q", got)
	}
	if _, err := router.Pick("ann", ""); err != nil {
		t.Error(err)
	}
	a.Continue()
	log.wait(t, "answers again")
	a.Register(instance("b2"))
	r.waitFleet(t, "b1 b2")
}

func TestAnEmptiedCatalogueIsNotBelieved(t *testing.T) {
	a := consultest.Start(t)
	a.Register(instance("b1"))
	router, r, log := routed(t, a, nil)
	r.waitFleet(t, "b1")
	a.Deregister("b1")
	log.wait(t, "keeping the last good set")
	if got := fleetOf(router); got != "b1" {
		t.Errorf("the fleet is %q", got)
	}
}

func TestABackendThatFlapsEndsUpAsItIs(t *testing.T) {
	a := consultest.Start(t)
	for _, id := range []string{"b1", "b2", "b3"} {
		a.Register(instance(id))
	}
	router, r, _ := routed(t, a, nil)
	r.waitFleet(t, "b1 b2 b3")
	began := time.Now()
	for range 100 {
		a.TTL("service:b2", "critical")
		a.TTL("service:b2", "passing")
	}
	a.TTL("service:b2", "critical")
	r.waitFleet(t, "b1 b2=down b3")
	if _, count, _ := r.last(); count > watchBurst+int(time.Since(began).Seconds()*watchRate)+2 {
		t.Errorf("%d snapshots in %v: the watch runs freely", count, time.Since(began))
	}
	if got := fleetOf(router); got != "b1 b2=down b3" {
		t.Errorf("the router has %q", got)
	}
}

func TestHalfOfTheFleetAtOnceIsBelievedAndMoreIsNot(t *testing.T) {
	a := consultest.Start(t)
	for i := range 6 {
		a.Register(instance(fmt.Sprint("b", i+1)))
	}
	router, r, log := routed(t, a, nil)
	r.waitFleet(t, "b1 b2 b3 b4 b5 b6")
	for _, id := range []string{"b1", "b2", "b3"} {
		a.TTL("service:"+id, "critical")
	}
	r.waitFleet(t, "b1=down b2=down b3=down b4 b5 b6")
	if got := fleetOf(router); got != "b1=down b2=down b3=down b4 b5 b6" {
		t.Errorf("half of the fleet gone: %q", got)
	}
	a.TTL("service:b4", "critical")
	log.wait(t, "more than panic_threshold")
	if got := fleetOf(router); got != "b1=down b2=down b3=down b4 b5 b6" {
		t.Errorf("more than half of the fleet gone: %q", got)
	}
	a.TTL("service:b1", "passing")
	r.waitFleet(t, "b1 b2=down b3=down b4=down b5 b6")
	if got := fleetOf(router); got != "b1 b2=down b3=down b4=down b5 b6" {
		t.Errorf("one came back: %q", got)
	}
}

func TestPlacements(t *testing.T) {
	a := consultest.Start(t)
	c, err := NewConsul(ConsulOptions{Address: a.Address(), Service: "imap", Slack: 2 * time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.kv.closeIdle()
	ctx := context.Background()
	for user, key := range map[string]string{
		"ann":             "ann",
		"ann@example.org": "ann@example.org",
		"a/b%2F%":         "a%2Fb%252F%25",
		"a..b@x":          "a..b@x",
		"über":            "%C3%BCber",
		"q?a=b&c#d+e":     "q%3Fa=b&c%23d+e",
	} {
		if id, found, err := c.Placement(ctx, user); id != "" || found || err != nil {
			t.Errorf("%s before: %q %v %v", user, id, found, err)
		}
		a.PutKV("imapproxy/placement/"+key, "b1\n")
		if id, found, err := c.Placement(ctx, user); id != "b1" || !found || err != nil {
			t.Errorf("%s: %q %v %v", user, id, found, err)
		}
		a.DeleteKV("imapproxy/placement/" + key)
		if _, found, err := c.Placement(ctx, user); found || err != nil {
			t.Errorf("%s after: %v %v", user, found, err)
		}
	}
	for _, user := range []string{".", "..", "a b", "a/../b"} { // Consul takes no such key
		if _, found, err := c.Placement(ctx, user); found || err != nil {
			t.Errorf("%q, which can't be placed: %v %v", user, found, err)
		}
	}
	for what, value := range map[string]string{"empty": "", "long": strings.Repeat("x", 300), "two lines": "b1\nb2"} {
		a.PutKV("imapproxy/placement/ann", value)
		if _, found, err := c.Placement(ctx, "ann"); found || err == nil {
			t.Errorf("a value that is %s: %v %v", what, found, err)
		}
	}
	a.PutKV("imapproxy/placement/ann", "b1")
	a.Stop()
	began := time.Now()
	if _, found, err := c.Placement(ctx, "ann"); found || err == nil {
		t.Errorf("an agent that hangs: %v %v", found, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v to give up", took)
	}
	a.Continue()
	if id, _, err := c.Placement(ctx, "ann"); id != "b1" || err != nil {
		t.Errorf("an agent that goes on: %q %v", id, err)
	}
}

// The right to register a service in Consul gives no access to passwords.
func TestARegistrationThatSwitchesTLSOffGetsNobody(t *testing.T) {
	a := consultest.Start(t)
	a.Register(instance("b1"))
	r, _ := watching(t, a, func(o *ConsulOptions) { o.Policy = TLSPolicy{TLS: "implicit"} })
	r.waitFleet(t, "b1")
	evil := instance("b2")
	evil.Weights = &consultest.Weights{Passing: 60000, Warning: 60000}
	for reason, meta := range map[string]map[string]string{
		`tls="none"`:                     {"tls": "none"},
		`server_name="evil.example.net"`: {"server_name": "evil.example.net"},
	} {
		evil.Meta = meta
		a.Register(evil)
		s := r.wait(t, reason, func(s routing.Snapshot) bool {
			return len(s.Backends) == 2 && strings.Contains(s.Backends[1].Reason, reason)
		})
		if b := s.Backends[1]; b.State != routing.Down || b.TLS != "" || b.ServerName != "" {
			t.Errorf("%+v", b)
		}
	}
}

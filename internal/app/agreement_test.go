package app

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/config"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
	"imapproxy/internal/task"
	"imapproxy/routing"
	"imapproxy/routing/agree"
	"imapproxy/routing/discovery"
)

// agreeingSettings returns the settings of a proxy that agrees with others, with the backends that a Consul
// lists.
func agreeingSettings(consul, cluster string) string {
	text := settings("")
	i, j := strings.Index(text, "discovery"), strings.Index(text, "routing {")
	return text[:i] + fmt.Sprintf("discovery \"consul\" {\n  address = %q\n  service = \"imap\"\n}\n", consul) + text[j:] +
		"park {\n  linger = \"0s\"\n}\ncluster {\n  token_file = \"token\"\n" + cluster + "}\n"
}

// agreeingApp runs such a proxy.
func agreeingApp(t *testing.T, consul *consultest.Agent, cluster string) (a *App, running *task.Task, path string) {
	t.Helper()
	path = file(t, agreeingSettings(consul.Address(), cluster))
	write(t, filepath.Join(filepath.Dir(path), "token"), "of-all-proxies\n")
	a = open(t, Options{File: path})
	running = task.Start(a.Run)
	select {
	case <-a.Ready():
	case <-time.After(patience):
		t.Fatalf("no fleet: %+v", a.agreement.part.Status())
	}
	return a, running, path
}

// inConsul registers model servers as the backends.
func inConsul(t *testing.T, consul *consultest.Agent, n int) {
	t.Helper()
	for i := range n {
		server := imaptest.NewModelServer(t, imaptest.ModelServerOptions{QResync: true})
		host, port, _ := strings.Cut(server.Addr, ":")
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		consul.Register(consultest.Service{ID: fmt.Sprint("b", i+1), Name: "imap", Address: host, Port: number,
			Check: &consultest.Check{TTL: "30m", Status: "passing"}})
	}
}

// eventually tries until there is no error.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	late := time.After(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-late:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond): // between two tries
		}
	}
}

// However a session ends, no claim is left that would keep its user at the backend; and a proxy that stops
// removes its key.
func TestNoRightIsLeftOnceTheSessionsHaveEnded(t *testing.T) {
	consul := consultest.Start(t)
	inConsul(t, consul, 2)
	imaptest.VerifyNoLeaks(t)
	a, running, _ := agreeingApp(t, consul, "")
	plain := a.Addrs()["plain"]
	var parked []*imaptest.Client
	for i := range 40 {
		c := imaptest.Dial(t, plain)
		user := fmt.Sprint("user", i/2)
		c.Login(user, "secret")
		switch i % 5 {
		case 0:
			c.MustOK("LOGOUT")
		case 1:
			_ = c.Close()
		case 2:
			c.Cmd("CREATE box") // another session may have
			c.MustOK("SELECT box")
			c.Write("t1 FETCH 1:* BODY[]")
			_ = c.Close()
		case 3:
			c.Cmd("CREATE box") // another session may have
			c.MustOK("SELECT box")
			c.Write("t1 IDLE")
			c.Expect("+ {*}")
			parked = append(parked, c)
		case 4:
			c.Write("t1 LOGIN x {5}") // the rest of the command never comes
			_ = c.Close()
		}
	}
	eventually(t, func() error {
		if n := a.server.Status().Attachments["parked"]; n != int64(len(parked)) {
			return fmt.Errorf("%d of %d are parked", n, len(parked))
		}
		return nil
	})
	for i, c := range parked {
		if i%2 == 0 {
			c.Write("DONE")
			c.Expect("t1 OK {*}")
			c.MustOK("NOOP")
		}
		_ = c.Close()
	}
	eventually(t, func() error {
		if n := a.server.Status().Sessions; n != 0 {
			return fmt.Errorf("%d sessions are left", n)
		}
		return nil
	})
	a.parking.pool.LetGo("")
	eventually(t, func() error {
		s := a.agreement.part.Status()
		waiting := a.agreement.ends.users()
		if s.Users != 0 || waiting != 0 {
			return fmt.Errorf("rights of %d users are left, ends of %d are waited for, %d connections wait to be used", s.Users, waiting, a.parking.pool.Len())
		}
		return nil
	})
	c := imaptest.Dial(t, plain)
	c.Login("user1", "secret")
	end(t, a, running)
	if text, there := consul.Get("/v1/kv/imapproxy/imapproxy/proxies?keys"); there {
		t.Errorf("it has ended, and its key is there: %s", text)
	}
}

// A reload applies the settings of the agreement that can change; the others need a restart, which the
// reload reports, and stay.
func TestAReloadOfTheAgreement(t *testing.T) {
	consul := consultest.Start(t)
	inConsul(t, consul, 1)
	imaptest.VerifyNoLeaks(t)
	a, running, path := agreeingApp(t, consul, "")
	defer end(t, a, running)
	reload := func(text string) (left []string) {
		t.Helper()
		write(t, path, text)
		if err := a.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		return a.lastReload.Load().NeedRestart
	}
	first := agreeingSettings(consul.Address(), "")
	if left := reload(agreeingSettings(consul.Address(), "  agree_within = \"3s\"\n  isolated = \"hold\"\n")); len(left) != 0 {
		t.Errorf("these need a restart: %q", left)
	}
	if !a.agreement.holds.Load() || time.Duration(a.agreement.within.Load()) != 3750*time.Millisecond {
		t.Error("agree_within (and a quarter more) and isolated are the old ones")
	}
	want := []string{"cluster.service", "cluster.session_ttl", "routing.storage", "users.lowercase"}
	left := reload(strings.Replace(agreeingSettings(consul.Address(), "  service = \"other\"\n  session_ttl = \"1m\"\n"), `"shared"`, `"separate"`, 1) +
		"users {\n  lowercase = false\n}\n")
	if slices.Sort(left); !slices.Equal(left, want) {
		t.Errorf("%q need a restart, want %q", left, want)
	}
	if a.cfg.Users.Lowercase != config.Default().Users.Lowercase || a.cfg.Cluster.Service != "imapproxy" || a.cfg.Routing.Storage != "shared" {
		t.Errorf("they have changed: %+v", a.cfg.Cluster)
	}
	if left := reload(first[:strings.Index(first, "cluster {")]); !slices.Equal(left, []string{"cluster"}) {
		t.Errorf("without the block %q need a restart", left)
	}
	imaptest.Dial(t, a.Addrs()["plain"]).Login("user1", "secret")
	if s := a.agreement.part.Status(); s.State != "joined" || s.Users != 1 {
		t.Errorf("%+v", s)
	}
}

// The wait for the ends of closed connections stops when the agreement says so: for one user, or for all.
func TestEndsThatArentSeenAreCut(t *testing.T) {
	g := newAgreement("p1")
	cut := map[string]int{}
	for _, user := range []string{"ann", "ann", "bob"} {
		(&connClaim{of: g, user: user}).Ends(func() { cut[user]++ })
	}
	if g.ends.cut("ann"); cut["ann"] != 2 || cut["bob"] != 0 {
		t.Errorf("%v", cut)
	}
	if g.ends.cut(""); cut["ann"] != 4 || cut["bob"] != 1 {
		t.Errorf("%v", cut)
	}
	ended := &connClaim{of: g, user: "carl"}
	ended.Ends(func() { t.Error("it has ended") })
	ended.Release()
	if g.ends.cut("carl"); g.ends.users() != 2 {
		t.Errorf("%d users' ends are waited for", g.ends.users())
	}
}

// A login that may go to a backend waits until the router knows the fleet that says so.
func TestALoginWaitsForTheRouter(t *testing.T) {
	g := newAgreement("p1")
	g.take.Store(permitted(discovery.TLSPolicy{}, func(routing.Snapshot) {}))
	if err := g.applies(t.Context(), 0, 1); err == nil {
		t.Error("the router knows no fleet")
	}
	waits := make(chan error)
	go func() { waits <- g.applies(t.Context(), patience, 2) }()
	g.switched(&agree.Fleet{Epoch: 1})
	select {
	case err := <-waits:
		t.Fatalf("it doesn't wait for the second: %v", err)
	default:
	}
	g.switched(&agree.Fleet{Epoch: 2})
	if err := <-waits; err != nil {
		t.Error(err)
	}
}

// A verb answers once the router has applied what was asked for, so that the answer and later answers have the new
// state. This test delays the router.
func TestAVerbAnswersOnceTheRouterGoesByIt(t *testing.T) {
	consul := consultest.Start(t)
	inConsul(t, consul, 2)
	imaptest.VerifyNoLeaks(t)
	a, running, _ := agreeingApp(t, consul, "")
	defer end(t, a, running)
	m := mover{a}
	name := a.router.Backends()[0].Name
	id := a.router.Backends()[0].ID
	heldUp := func(what string, there func() bool, verb func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answers := make(chan error, 1)
		a.agreement.giving.Lock()
		defer a.agreement.giving.Unlock()
		go func() { answers <- verb(ctx) }()
		eventually(t, func() error {
			if !there() {
				return fmt.Errorf("%s: not agreed on", what)
			}
			return nil
		})
		cancel()
		if err := <-answers; err == nil {
			t.Errorf("%s: answered while the router went by the fleet before", what)
		}
	}
	drained := func() bool { return a.agreement.part.Drained(id) != 0 }
	drain := func(ctx context.Context) error {
		_, err := m.Drain(ctx, admin.DrainRequest{Backend: name, By: "ann"})
		return err
	}
	heldUp("drain", drained, drain)
	heldUp("undrain", func() bool { return !drained() }, func(ctx context.Context) error {
		_, err := m.Undrain(ctx, admin.UndrainRequest{Backend: name, By: "ann"})
		return err
	})
	heldUp("pause", func() bool { return len(a.agreement.part.Status().Pauses) == 1 }, func(ctx context.Context) error {
		_, err := pauser(m).Pause(ctx, admin.PauseRequest{Backend: name, For: "1m", By: "ann"})
		return err
	})
	for range 10 { // as they come, undelayed
		if err := drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		u, err := m.Undrain(t.Context(), admin.UndrainRequest{Backend: name, By: "ann"})
		if err != nil || u.State != "up" {
			t.Fatalf("undrain answers %+v, %v", u, err)
		}
	}
}

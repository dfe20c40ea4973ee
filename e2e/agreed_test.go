package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
)

// agreeing are proxies that agree on where users are, before Dovecots on one store, with a referee between them.
type agreeing struct {
	*several
	*referee
	consul *consultest.Agent
	linger string // of the proxies that are started
	mail   string // the backends' store
	doves  []*servers.Server
}

func startAgreeing(t *testing.T, proxies, backends int, further string) *agreeing {
	t.Helper()
	return startAgreeingParked(t, proxies, backends, "20m", further)
}

func startAgreeingParked(t *testing.T, proxies, backends int, linger, further string) *agreeing {
	t.Helper()
	k := newAgreeing(t, linger)
	for i := range backends {
		id := fmt.Sprint("d", i+1)
		registerBackend(t, k.consul, id, k.addBackend(id))
	}
	for range proxies {
		k.proxies = append(k.proxies, k.start(further))
	}
	k.agreed()
	return k
}

// newAgreeing is a Consul, without proxies and backends.
func newAgreeing(t *testing.T, linger string) *agreeing {
	t.Helper()
	servers.Real(t)
	k := &agreeing{
		linger: linger, several: &several{t: t, token: filepath.Join(servers.Folder(t), "cluster.token")},
		referee: newReferee(t), consul: consultest.Start(t), mail: servers.DovecotMail(t),
	}
	writeFile(t, k.token, clusterToken+"\n")
	return k
}

// addBackend starts a backend, and returns its address.
func (k *agreeing) addBackend(id string) string {
	k.several.t.Helper()
	return k.addBackendWith(id, "")
}

// addBackendWith starts a backend with further configuration, and returns its address.
func (k *agreeing) addBackendWith(id, extra string) string {
	k.several.t.Helper()
	dove := servers.StartDovecot(k.several.t, servers.DovecotOptions{Name: id, Mail: k.mail, Extra: extra})
	k.doves = append(k.doves, dove)
	return k.before(id, dove.Addr)
}

// agreed waits until all proxies go by one fleet.
func (k *agreeing) agreed() {
	t := k.several.t
	t.Helper()
	for _, p := range k.proxies {
		p.eventually(t, "one of all proxies", func() error {
			if a := k.agreement(p); len(a.Proxies) != len(k.proxies) || a.Epoch != a.Acked || a.State != "joined" {
				return fmt.Errorf("%+v", a)
			}
			return nil
		})
	}
}

// start runs a proxy. The shortest session has the death of a proxy take half a minute.
func (k *agreeing) start(further string) *runningProxy {
	k.several.t.Helper()
	return k.startWith(further, proxyOptions{Consul: k.consul.Address(), Routing: `flap_damp = "0s"` + "\nfailover_after = \"1s\""})
}

// startWith runs a proxy with further settings, and further lines of its block cluster.
func (k *agreeing) startWith(further string, o proxyOptions) *runningProxy {
	k.several.t.Helper()
	o.Service, o.Linger, o.AdminToken = service, k.linger, k.token
	o.Further += fmt.Sprintf("register {\n}\ncluster {\n  token_file = %q\n  session_ttl = \"10s\"\n%s}\n", k.token, further)
	return startProxy(k.several.t, o)
}

// agreementRow has the fields of a proxy's part that the tests read.
type agreementRow struct {
	State        string
	Epoch, Acked int
	Users, Stays int
	Proxies      []struct {
		ID, Host string
		Session  bool
	}
}

func (k *agreeing) agreement(p *runningProxy) agreementRow {
	k.several.t.Helper()
	out, code := k.run(p, "status", "--json")
	var s struct{ Agreement agreementRow }
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 {
		k.several.t.Fatalf("%v (%d):\n%s", err, code, out)
	}
	return s.Agreement
}

// Users log in through all proxies at once: each has connections at one backend. Where a user is known, no login asks Consul: they
// log in while it hangs. A session's end gives up its right: in the end no proxy has any.
func TestAUserIsAtOneBackendThroughAllProxies(t *testing.T) {
	t.Parallel()
	k := startAgreeing(t, 3, 2, "")
	const users = 20
	var clients [users][3]*imaptest.Client
	var logins sync.WaitGroup
	for u := range users {
		for i, p := range k.proxies {
			c := imaptest.Dial(t, p.Plain)
			clients[u][i] = c
			logins.Go(func() {
				if a := c.TryLogin(servers.User(u+1), servers.Password); !a.OK() {
					t.Errorf("%s through proxy %d: %s", servers.User(u+1), i+1, a.Tagged)
				}
			})
		}
	}
	logins.Wait()
	count := map[string]int{}
	for u := range users {
		count[k.backendOf(servers.User(u+1))]++
	}
	if count["d1"] == 0 || count["d2"] == 0 || count["d1"]+count["d2"] != users {
		t.Fatalf("users by backend: %v", count)
	}
	k.consul.Stop()
	for u := range users {
		c := imaptest.Dial(t, k.proxies[u%3].Plain)
		c.Login(servers.User(u+1), servers.Password)
		c.MustOK("SELECT INBOX")
		c.MustOK("LOGOUT")
		if u%2 == 0 {
			new := imaptest.Dial(t, k.proxies[u%3].Plain)
			new.Login(servers.User(users+u+1), servers.Password)
			new.MustOK("LOGOUT")
		}
	}
	k.consul.Continue()
	for u := range users {
		for _, c := range clients[u] {
			c.MustOK("LOGOUT")
		}
	}
	for _, p := range k.proxies {
		if out, code := k.run(p, "flush", servers.User(1)); code != 0 {
			t.Errorf("flush (%d): %s", code, out)
		}
	}
	k.nothingHeld()
}

// nothingHeld waits until no proxy has a right to a connection. Warm connections are let go of first.
func (k *agreeing) nothingHeld() {
	t := k.several.t
	t.Helper()
	for _, p := range k.proxies {
		p.eventually(t, "without a user", func() error {
			for u := 1; u <= servers.Users; u++ {
				if k.backendOf(servers.User(u)) != "" {
					k.run(p, "flush", servers.User(u))
				}
			}
			if a := k.agreement(p); a.Users != 0 {
				return fmt.Errorf("%+v; %v", a, k.left())
			}
			return nil
		})
	}
	if left := k.left(); len(left) != 0 {
		t.Errorf("the backends have connections: %v", left)
	}
}

// A backend is put into maintenance: for all proxies, users with sessions there stay, and go elsewhere once their last session has ended.
func TestAllProxiesFollowAMaintenance(t *testing.T) {
	t.Parallel()
	k := startAgreeing(t, 2, 2, "")
	first, second := k.proxies[0], k.proxies[1]
	var there []int // users at d1
	open := map[int]*imaptest.Client{}
	for u := 1; len(there) < 4; u++ {
		c := imaptest.Dial(t, first.Plain)
		c.Login(servers.User(u), servers.Password)
		if k.backendOf(servers.User(u)) == "d1" {
			there, open[u] = append(there, u), c
		}
	}
	k.consul.Maintain("d1", "kernel")
	for _, p := range k.proxies {
		p.eventually(t, "going by the next fleet", func() error {
			if a := k.agreement(p); a.Acked != 2 {
				return fmt.Errorf("%+v", a)
			}
			return nil
		})
	}
	for _, u := range there {
		open[u].MustOK("LOGOUT")
		second.eventually(t, "letting the user in", func() error {
			c := imaptest.Dial(t, second.Plain)
			defer c.Close()
			if a := c.TryLogin(servers.User(u), servers.Password); !a.OK() {
				return fmt.Errorf("%s", a.Tagged)
			}
			c.MustOK("LOGOUT")
			return nil
		})
		if at := k.backendOf(servers.User(u)); at == "d1" {
			t.Errorf("%s is at d1 again", servers.User(u))
		}
	}
}

// A backend is put into maintenance: its users are moved, through all proxies, and no client is disconnected: those who idle, those between two
// commands, and those who have selected nothing.
func TestAMaintenanceMovesUsersAndDisconnectsNobody(t *testing.T) {
	t.Parallel()
	k := startAgreeingParked(t, 2, 2, "1s", "  agree_within = \"3s\"\n")
	type client struct {
		*imaptest.Client
		user string
		done func() imaptest.Answer // of IDLE
	}
	var clients []client
	count := map[string]int{}
	users := 0
	for u := 1; u <= 8 || (count["d1"] == 0 || count["d2"] == 0) && u <= 40; u++ { // where users go depends on the node's UUID
		users = u
		for i, p := range k.proxies {
			c := client{Client: imaptest.Dial(t, p.Plain), user: servers.User(u)}
			c.Login(c.user, servers.Password)
			if (u+i)%3 != 0 {
				c.MustOK("SELECT INBOX")
			}
			if (u+i)%3 == 1 {
				c.done = c.Idle()
			}
			clients = append(clients, c)
		}
		count[k.backendOf(servers.User(u))]++
	}
	if count["d1"] == 0 || count["d2"] == 0 {
		t.Fatalf("users by backend: %v", count)
	}
	k.consul.Maintain("d1", "kernel")
	k.proxies[0].eventually(t, "done with d1", func() error {
		for u := 1; u <= users; u++ {
			if at := k.backendOf(servers.User(u)); at == "d1" {
				first, _ := k.run(k.proxies[0], "sessions")
				second, _ := k.run(k.proxies[1], "sessions")
				return fmt.Errorf("%s is at d1: %v\n%s%s", servers.User(u), k.left(), first, second)
			}
		}
		return nil
	})
	for _, c := range clients {
		if c.done != nil {
			if a := c.done(); !a.OK() {
				t.Errorf("%s: %s", c.user, a)
			}
		}
		c.MustOK("NOOP")
		c.MustOK("STATUS INBOX (MESSAGES)")
		if at := k.backendOf(c.user); at != "d2" {
			t.Errorf("%s is at %q", c.user, at)
		}
	}
	for _, c := range clients {
		c.MustOK("LOGOUT")
	}
	k.nothingHeld()
}

// A proxy that is killed is taken out by hand, and its users are served by the others; one that ends takes itself out.
func TestADeadProxyIsRemoved(t *testing.T) {
	t.Parallel()
	k := startAgreeing(t, 3, 2, "")
	first, second, third := k.proxies[0], k.proxies[1], k.proxies[2]
	c := imaptest.Dial(t, third.Plain)
	c.Login(servers.User(1), servers.Password)
	was := k.agreement(first)
	for _, p := range was.Proxies {
		if out, code := k.run(first, "proxies", "remove", p.ID); code != 1 || !strings.Contains(out, "is alive: it answers at") {
			t.Errorf("removal of a living proxy (%d):\n%s", code, out)
		}
	}
	third.signal(t, syscall.SIGKILL)
	<-third.Done()
	c = imaptest.Dial(t, first.Plain)
	c.Login(servers.User(1), servers.Password)
	out, code := k.run(first, "proxies")
	if code != 1 || !strings.Contains(out, "imapproxy proxies remove ") {
		t.Errorf("proxies (%d):\n%s", code, out)
	}
	_, words, _ := strings.Cut(out, "imapproxy proxies remove ")
	id, _, _ := strings.Cut(words, "\n")
	if out, code := k.run(first, "proxies", "remove", "nobody"); code != 1 || !strings.Contains(out, "shows the id of one that doesn't answer") {
		t.Errorf("removal of nobody (%d):\n%s", code, out)
	}
	if out, code := k.run(first, "proxies", "remove", id); code != 0 || !strings.Contains(out, id) {
		t.Fatalf("removal (%d):\n%s", code, out)
	}
	if is := k.agreement(first); len(was.Proxies) != 3 || len(is.Proxies) != 2 {
		t.Errorf("%d proxies before, %d after", len(was.Proxies), len(is.Proxies))
	}
	second.signal(t, syscall.SIGTERM)
	<-second.Done()
	first.eventually(t, "alone", func() error {
		if is := k.agreement(first); len(is.Proxies) != 1 {
			return fmt.Errorf("%+v", is)
		}
		return nil
	})
	c.MustOK("NOOP")
}

// Without a block cluster a second proxy doesn't start, also not on another address of the machine with the same ports. The first
// one does so again, also after a kill.
func TestASecondProxyAloneDoesntStart(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	consul := consultest.Start(t)
	dove := servers.StartDovecot(t, servers.DovecotOptions{Name: "d1"})
	registerBackend(t, consul, "d1", dove.Addr)
	o := proxyOptions{Consul: consul.Address(), Service: service, Further: "register {\n}\n"}
	first := startProxy(t, o)
	first.eventually(t, "registered", func() error {
		if text, _ := consul.Get("/v1/health/service/imapproxy?passing=1"); !strings.Contains(text, `"kind"`) {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	text, err := os.ReadFile(first.Config)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(config string, elsewhere func(address string) string) string {
		t.Helper()
		file := filepath.Join(servers.Folder(t), "config.hcl")
		for _, address := range []string{first.Plain, first.StartTLS, first.TLS, strings.TrimPrefix(first.Admin, "http://")} {
			config = strings.ReplaceAll(config, address, elsewhere(address))
		}
		writeFile(t, file, config)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, os.Getenv(proxyBinary), "serve", "--config", file).CombinedOutput()
		if err == nil || ctx.Err() != nil {
			t.Error("it started")
		}
		return string(out)
	}
	otherPort := func(string) string { other, _ := servers.FreeAddr(t); return other }
	otherHost := func(address string) string { _, port, _ := net.SplitHostPort(address); return "127.94.3.7:" + port }
	for where, elsewhere := range map[string]func(string) string{"other ports": otherPort, "another address": otherHost} {
		if out := refused(string(text), elsewhere); !strings.Contains(out, "another proxy is alive") || !strings.Contains(out, "cluster") || !strings.Contains(out, "config.hcl:") {
			t.Errorf("a second proxy with %s says:\n%s", where, out)
		}
	}
	first.signal(t, syscall.SIGKILL)
	<-first.Done()
	again := &runningProxy{Config: first.Config, Admin: first.Admin, Plain: first.Plain}
	again.Process = servers.Start(t, "imapproxy again", exec.Command(os.Getenv(proxyBinary), "serve", "--config", first.Config))
	again.waitReady(t)
	o.Further = "register {\n  allow_others = true\n}\n"
	startProxy(t, o)
}

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
)

// clusterToken is the token with which the proxies ask each other.
const clusterToken = "0123456789abcdef-of-the-cluster"

// several are proxies of one service, who find each other in a real Consul, before one Dovecot.
type several struct {
	t       *testing.T
	backend *servers.Server
	proxies []*runningProxy
	token   string // the file
}

func startSeveral(t *testing.T, n int) *several {
	t.Helper()
	return startSeveralBefore(t, n, servers.DovecotOptions{Name: "d1"}, func(int) proxyOptions { return proxyOptions{Linger: "20m"} })
}

// startSeveralBefore has the n-th proxy configured by each(n).
func startSeveralBefore(t *testing.T, n int, d servers.DovecotOptions, each func(int) proxyOptions) *several {
	t.Helper()
	servers.Real(t)
	consul := consultest.Start(t)
	dove := servers.StartDovecot(t, d)
	registerBackend(t, consul, "d1", dove.Addr)
	k := &several{t: t, backend: dove, token: filepath.Join(servers.Folder(t), "cluster.token")}
	writeFile(t, k.token, clusterToken+"\n")
	for i := range n {
		o := each(i)
		o.Consul, o.Service = consul.Address(), service
		o.Further += fmt.Sprintf("register {\n}\ncluster {\n  token_file = %q\n}\n", k.token)
		k.proxies = append(k.proxies, startProxy(t, o))
	}
	for _, p := range k.proxies {
		p.eventually(t, "aware of all proxies", func() error {
			if all, failed := k.ask(p, "status"); len(all) != n || len(failed) > 0 {
				return fmt.Errorf("it knows %d of %d, failed: %v", len(all), n, failed)
			}
			return nil
		})
	}
	return k
}

// ask runs a verb with --cluster at one proxy, and returns each one's answer, and the errors.
func (k *several) ask(p *runningProxy, args ...string) (answers map[string]map[string]any, failed []string) {
	k.t.Helper()
	if args[0] != "kick" && args[0] != "flush" && args[0] != "user" && args[0] != "proxies" {
		args = append(args, "--cluster")
	}
	out, _ := k.run(p, append(args, "--json")...)
	var all struct {
		Proxies []struct {
			Proxy, Address, Error string
			Answer                map[string]any
		}
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		k.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	answers = map[string]map[string]any{}
	for _, one := range all.Proxies {
		if one.Error != "" {
			failed = append(failed, one.Error)
			continue
		}
		answers[one.Address] = one.Answer
	}
	return answers, failed
}

// run runs a verb at one proxy, and returns what it prints and its exit code.
func (k *several) run(p *runningProxy, args ...string) (string, int) {
	k.t.Helper()
	args = append(args, "--admin", strings.TrimPrefix(p.Admin, "http://"), "--token-file", k.token)
	out, err := exec.Command(os.Getenv(proxyBinary), args...).Output()
	if exit, ok := err.(*exec.ExitError); ok {
		return string(out) + string(exit.Stderr), exit.ExitCode()
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return string(out), 0
}

// An operator sees all proxies from any of them, and one that is gone is named.
func TestAllProxiesAreSeenFromEach(t *testing.T) {
	t.Parallel()
	k := startSeveral(t, 3)
	for _, p := range k.proxies {
		c := imaptest.Dial(t, p.Plain)
		c.Login(servers.User(1), servers.Password)
		t.Cleanup(func() { _ = c.Close() })
	}
	for _, p := range k.proxies {
		sessions, failed := k.ask(p, "sessions", "--user", servers.User(1))
		if len(sessions) != 3 || len(failed) > 0 {
			t.Fatalf("%v, %v", sessions, failed)
		}
		for addr, a := range sessions {
			if list := a["sessions"].([]any); len(list) != 1 {
				t.Errorf("%s has %v", addr, list)
			}
		}
		if out, code := k.run(p, "backends", "--cluster"); code != 0 || !strings.Contains(out, "d1 ") || len(strings.Split(strings.TrimSpace(out), "\n")) != 2 {
			t.Errorf("backends (%d):\n%s", code, out)
		}
		if out, code := k.run(p, "proxies"); code != 0 || strings.Count(out, "\n") != 4 || strings.Contains(out, "differ") {
			t.Errorf("proxies (%d):\n%s", code, out)
		}
	}
	third := k.proxies[2]
	third.signal(t, syscall.SIGSTOP)
	t.Cleanup(func() { third.signal(t, syscall.SIGCONT) })
	out, code := k.run(k.proxies[0], "proxies")
	if code != 1 || !strings.Contains(out, "no answer") || !strings.Contains(out, "it doesn't answer in time") {
		t.Errorf("with a proxy that is stopped (%d):\n%s", code, out)
	}
	third.signal(t, syscall.SIGCONT)
	if out, code := k.run(k.proxies[0], "proxies"); code != 0 {
		t.Errorf("and when it goes on (%d):\n%s", code, out)
	}
}

// A verb holds on all proxies: who is kicked, or whose password is forgotten, is so wherever they came in.
func TestVerbsHoldOnAllProxies(t *testing.T) {
	t.Parallel()
	k := startSeveral(t, 3)
	user := servers.User(1)
	var clients []*imaptest.Client
	for _, p := range k.proxies {
		c := imaptest.Dial(t, p.Plain)
		c.Login(user, servers.Password)
		clients = append(clients, c)
	}
	if out, code := k.run(k.proxies[1], "user", user); code != 0 || strings.Count(out, "pin ") != 3 || strings.Count(out, "session ") < 3 {
		t.Errorf("user (%d):\n%s", code, out)
	}
	if out, code := k.run(k.proxies[0], "kick", "--backend", "d1", "--dry-run"); code != 0 || !strings.Contains(out, "3 sessions of 1 user would be ended (on 3 of 3 proxies)") {
		t.Errorf("a dry run (%d): %s", code, out)
	}
	if out, code := k.run(k.proxies[0], "flush", user); code != 0 || !strings.Contains(out, "with the user's last session") {
		t.Errorf("flush of a user who is here (%d): %s", code, out)
	}
	if out, code := k.run(k.proxies[2], "kick", user, "--forget"); code != 0 || !strings.Contains(out, "3 sessions of "+user+" ended") {
		t.Errorf("kick (%d): %s", code, out)
	}
	for _, c := range clients {
		c.Expect("* BYE {*}administrator{*}")
		c.ExpectEOF()
	}
	if out, code := k.run(k.proxies[1], "user", user); code != 0 || strings.Count(out, "none") != 3 {
		t.Errorf("user, whose flushed pins have ended (%d):\n%s", code, out)
	}
	c := imaptest.Dial(t, k.proxies[0].Plain)
	if r := c.TryLogin(user, "wrong"); r.OK() {
		t.Error("a wrong password is taken")
	}
	if out, code := k.run(k.proxies[2], "user", user); code != 0 || strings.Count(out, "failed login") != 1 {
		t.Errorf("user, whose login has failed (%d):\n%s", code, out)
	}
}

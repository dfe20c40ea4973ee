package e2e

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// The old process is killed before it has handed over: the new one has its sockets, and serves.
func TestAnUpgradeWhoseOldProcessIsKilled(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	s := servers.StartDovecot(t, servers.DovecotOptions{Store: "sdbox"})
	p := startProxy(t, proxyOptions{Backends: []backend{{ID: "d1", Address: s.Addr}}, Shutdown: handingOver(t, "10m")})
	text, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	// A process that takes over waits until it knows its backends; this one learns of none.
	before, rest, _ := strings.Cut(string(text), "discovery \"static\" {")
	_, after, _ := strings.Cut(rest, "routing {")
	writeFile(t, p.Config, before+"discovery \"consul\" {\n  address = \"127.0.0.1:1\"\n  service = \"none\"\n}\nrouting {"+after)
	old := p.Process
	p.Process = servers.Start(t, "imapproxy", p.serveCommand())
	p.says(t, "taking over from the process that serves now")
	old.Kill()
	if r := imaptest.Dial(t, p.Plain).Cmd("CAPABILITY"); !r.OK() {
		t.Error(r)
	}
	p.says(t, "the old process has ended during the hand-over: this one serves")
}

// A container ends with its first process, so a process that this one starts can't outlive it: the upgrade is refused, and the proxy serves on.
func TestTheFirstProcessOfAContainerIsNotUpgraded(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	s := servers.StartDovecot(t, servers.DovecotOptions{Store: "sdbox"})
	p := configureProxy(t, proxyOptions{Backends: []backend{{ID: "d1", Address: s.Addr}}, Shutdown: handingOver(t, "10m")})
	serve := p.serveCommand()
	first := exec.Command("unshare", append([]string{"--pid", "--fork", "--kill-child"}, serve.Args...)...)
	first.Env = serve.Env
	p.Process = servers.Start(t, "imapproxy", first)
	p.waitReady(t)
	out, err := exec.Command(os.Getenv(proxyBinary), "upgrade", "--config", p.Config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "start another container") {
		t.Errorf("imapproxy upgrade: %v %s", err, out)
	}
	if err := oneLogin(p.Plain, s.User(1)); err != nil {
		t.Error(err)
	}
}

// A process that has run out of descriptors when it is asked to hand over does so once it has some.
func TestAnUpgradeAfterAShortageOfDescriptors(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	s := servers.StartDovecot(t, servers.DovecotOptions{Store: "sdbox"})
	p := startProxy(t, proxyOptions{Backends: []backend{{ID: "d1", Address: s.Addr}}, Shutdown: handingOver(t, "10m")})
	var usual unix.Rlimit
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_NOFILE, nil, &usual); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: usual.Max}, nil); err != nil {
		t.Fatal(err)
	}
	upgraded := make(chan string, 1)
	go func() { // ends with the command
		out, err := exec.Command(os.Getenv(proxyBinary), "upgrade", "--config", p.Config).CombinedOutput()
		if err != nil {
			out = append(out, err.Error()...)
		}
		upgraded <- string(out)
	}()
	p.says(t, "accept4: too many open files")
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_NOFILE, &usual, nil); err != nil {
		t.Fatal(err)
	}
	if out := <-upgraded; !strings.Contains(out, "the new process serves") {
		t.Errorf("imapproxy upgrade: %s", out)
	}
	if err := oneLogin(p.Plain, s.User(1)); err != nil {
		t.Error(err)
	}
}

// connects has a client connect every 10 ms until stop, which says how many there were, and how long the longest one waited for its greeting. None may be refused,
// or get none; those that a process has accepted which is killed are disconnected.
func connects(t testing.TB, addr string) (stop func() (clients int, longest time.Duration)) {
	var running sync.WaitGroup
	var mu sync.Mutex
	var clients int
	var longest time.Duration
	one := func() {
		begun := time.Now()
		c, err := net.DialTimeout("tcp", addr, time.Minute)
		if err != nil {
			t.Errorf("a client was refused: %v", err)
			return
		}
		defer c.Close()
		_ = c.SetReadDeadline(begun.Add(time.Minute))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a client got no greeting")
		}
		mu.Lock()
		defer mu.Unlock()
		clients, longest = clients+1, max(longest, time.Since(begun))
	}
	end := make(chan struct{})
	running.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			running.Go(one)
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	})
	return func() (int, time.Duration) {
		close(end)
		running.Wait()
		return clients, longest.Round(time.Millisecond)
	}
}

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// handoverSocket returns a path that is short enough for a socket.
func handoverSocket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func handingOver(t testing.TB, within string) string {
	return fmt.Sprintf("handover = %q\n  handover_socket = %q", within, handoverSocket(t))
}

// succeed starts a new process of the proxy, and waits until it has taken over from the old one, which is returned.
func (p *runningProxy) succeed(t testing.TB) (old *servers.Process) {
	t.Helper()
	old = p.Process
	p.Process = servers.Start(t, "imapproxy", p.serveCommand())
	p.says(t, "this process has taken over")
	return old
}

// says waits for a line of the process's log.
func (p *runningProxy) says(t testing.TB, line string) {
	t.Helper()
	p.eventually(t, line, func() error {
		if !strings.Contains(p.Output(), line) {
			return fmt.Errorf("the log has no %q", line)
		}
		return nil
	})
}

// stream is a stream of clients that log in.
type stream struct {
	logins  atomic.Int64
	failure atomic.Pointer[error]
	running sync.WaitGroup
	end     chan struct{}

	mu   sync.Mutex // guards took
	took []time.Duration
}

// one is one client.
func (l *stream) one(addr, user string) bool {
	begun := time.Now()
	if err := oneLogin(addr, user); err != nil {
		l.failure.CompareAndSwap(nil, &err)
		return false
	}
	l.logins.Add(1)
	l.mu.Lock()
	l.took = append(l.took, time.Since(begun))
	l.mu.Unlock()
	return true
}

// logins begins n streams of logins, one after the other each; stop ends them.
func logins(t testing.TB, p *runningProxy, s *servers.Server, n int) *stream {
	t.Helper()
	l := &stream{end: make(chan struct{})}
	for i := range n {
		l.running.Go(func() {
			for {
				select {
				case <-l.end:
					return
				default:
				}
				if !l.one(p.Plain, s.User(i+6)) {
					return
				}
			}
		})
	}
	return l
}

// loginsAt begins a stream of so many logins a second, by the users from first on; stop ends it. While 512 clients haven't
// done none begins.
func loginsAt(p *runningProxy, s *servers.Server, rate, first int) *stream {
	l := &stream{end: make(chan struct{})}
	l.running.Go(func() {
		tick, places := time.NewTicker(time.Second/time.Duration(rate)), make(chan struct{}, 512)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-l.end:
				return
			case <-tick.C:
			}
			places <- struct{}{}
			l.running.Go(func() {
				l.one(p.Plain, s.User(first+i%(servers.Users-first)))
				<-places
			})
		}
	})
	return l
}

// figures are the logins so far: how many, and how long one takes.
func (l *stream) figures() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.took) == 0 {
		return "no logins"
	}
	all := slices.Sorted(slices.Values(l.took))
	at := func(share float64) time.Duration { return all[int(share*float64(len(all)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("%d logins with STATUS and LOGOUT: p50 %v, p99 %v, longest %v", len(all), at(0.5), at(0.99), at(1))
}

// oneLogin connects, logs in, asks something and leaves. Each step must succeed.
func oneLogin(addr, user string) error {
	c, err := imaptest.DialConn(context.Background(), addr, imaptest.DialOptions{Timeout: time.Minute})
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Next(); err != nil {
		return fmt.Errorf("no greeting: %w", err)
	}
	for i, line := range []string{"LOGIN " + user + " " + servers.Password, "STATUS INBOX (MESSAGES)", "LOGOUT"} {
		if _, r, err := c.Command(fmt.Sprintf("a%d", i), line); err != nil || r.Status() != "OK" {
			return fmt.Errorf("%s: %s %w", line, r, err)
		}
	}
	return nil
}

func (l *stream) stop(t testing.TB) {
	t.Helper()
	close(l.end)
	l.running.Wait()
	if err := l.failure.Load(); err != nil {
		t.Errorf("a client of a login stream: %v", *err)
	}
}

// more waits for n further logins.
func (l *stream) more(t testing.TB, p *runningProxy, n int64) {
	t.Helper()
	until := l.logins.Load() + n
	p.eventually(t, "further logins", func() error {
		if err := l.failure.Load(); err != nil {
			return nil // stop reports it
		}
		if l.logins.Load() < until {
			return fmt.Errorf("%d logins", l.logins.Load())
		}
		return nil
	})
}

// upgradeLong has TestUpgradeUnderLoad make the load of `make upgrade`.
const upgradeLong = "UPGRADE_LONG"

// Three upgrades in a row, each followed by one to a process that can't serve, and then one to a process that dies, while clients log in and work: no client is refused,
// and none loses an answer.
func TestUpgradeUnderLoad(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	long := os.Getenv(upgradeLong) != ""
	busy, idle, users, further, linger, think := 6, 2, 5, int64(5), "10ms", time.Duration(0)
	extra, handover := "", "10m"
	if long {
		handover = "24h" // the old process begins at once to end sessions, at even intervals over four fifths of that
		busy, idle, users, further, linger, think = 500, 50, 100, 2000, "10s", time.Second
		extra = "service imap {\n process_limit = 4096\n}\n"
	}
	s := servers.StartDovecot(t, servers.DovecotOptions{Store: "sdbox", Extra: extra})
	p := startProxy(t, proxyOptions{Backends: []backend{{ID: "d1", Address: s.Addr}}, Linger: linger, Shutdown: handingOver(t, handover)})
	end := make(chan struct{})
	var all []*outliver
	var running sync.WaitGroup
	for i := range busy + idle {
		o := &outliver{user: s.User(i%users + 1), n: i, think: think}
		all = append(all, o)
		o.connect(t, p.Plain)
		running.Go(func() {
			if i < busy {
				o.work(end)
			} else {
				o.idle(end)
			}
		})
	}
	worked := func() {
		t.Helper()
		before := make([]int64, busy)
		for i := range before {
			before[i] = all[i].answers.Load()
		}
		p.eventually(t, "the clients' work", func() error {
			for i, n := range before {
				if all[i].ended.Load() == nil && all[i].answers.Load() < n+3 {
					return fmt.Errorf("client %d has had %d answers", i, all[i].answers.Load()-n)
				}
			}
			return nil
		})
	}
	var l *stream
	begun := time.Now()
	if long {
		l = loginsAt(p, s, 200, users+1)
	} else {
		l = logins(t, p, s, 3)
	}
	good, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	var old []*servers.Process
	for range 3 {
		l.more(t, p, further)
		old = append(old, p.succeed(t))
		worked()
		writeFile(t, p.Config, strings.Replace(string(good), "routing {", "routng {", 1))
		failed := servers.Start(t, "imapproxy", p.serveCommand())
		<-failed.Done()
		writeFile(t, p.Config, string(good))
	}
	l.more(t, p, further)
	for i, o := range old {
		select {
		case <-o.Done():
			t.Errorf("process %d has ended, and had sessions", i)
		default:
		}
	}
	l.stop(t)
	lasted := time.Since(begun)
	// One more dies in its first second. The clients work on at the others, and that which comes back serves new ones.
	connected, last := connects(t, p.Plain), p.succeed(t)
	p.Process.Kill()
	p.Process = last
	p.says(t, "this one serves again")
	worked()
	clients, longest := connected()
	if err := oneLogin(p.Plain, s.User(users+1)); err != nil {
		t.Error(err)
	}
	close(end)
	running.Wait()
	answers, refused := int64(0), int64(0)
	for _, o := range all {
		if err := o.ended.Load(); err != nil {
			t.Errorf("client %d (%s): %v", o.n, o.user, *err)
		}
		answers, refused = answers+o.answers.Load(), refused+o.refused.Load()
		_ = o.conn.Close()
	}
	if refused > 0 {
		t.Errorf("%d commands were answered NO", refused)
	}
	t.Logf("%d busy and %d idling sessions, %d upgrades in %v: %s; %d answers, %d of them NO", busy, idle, len(old), lasted.Round(time.Second), l.figures(), answers, refused)
	t.Logf("%d clients connected around the death of one more new process, and waited %v for the greeting at most", clients, longest)
	// Without sessions the old processes end, the first one first.
	for _, o := range old {
		p.outlives(t, o)
	}
	if err := oneLogin(p.Plain, s.User(1)); err != nil {
		t.Error(err)
	}
	storedOnce(t, s.Addr, all)
}

// New processes that can't serve, and one that dies during its trial: the old one serves on.
func TestUpgradeThatFails(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	s := servers.StartDovecot(t, servers.DovecotOptions{Store: "sdbox"})
	p := startProxy(t, proxyOptions{Backends: []backend{{ID: "d1", Address: s.Addr}}, Shutdown: handingOver(t, "10m")})
	l := logins(t, p, s, 2)
	before := imaptest.Dial(t, p.Plain)
	before.Login(s.User(1), servers.Password)

	good, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"a mistake":                      strings.Replace(string(good), "routing {", "routng {", 1),
		"an address that isn't ours":     strings.Replace(string(good), p.StartTLS, "192.0.2.1:143", 1),
		"a certificate that isn't there": strings.Replace(string(good), p.Cert.CertFile, p.Cert.CertFile+".gone", 1),
	} {
		writeFile(t, p.Config, text)
		failed := servers.Start(t, "imapproxy", p.serveCommand())
		<-failed.Done()
		if strings.Contains(failed.Output(), "this process has taken over") {
			t.Errorf("%s: it has taken over", what)
		}
		l.more(t, p, 3)
	}
	writeFile(t, p.Config, string(good))

	// This one serves already when it is killed. Clients that it had accepted are lost with it, so none logs in.
	l.stop(t)
	connected := connects(t, p.Plain)
	dying := servers.Start(t, "imapproxy", p.serveCommand())
	p.eventually(t, "the trial", func() error {
		if !strings.Contains(dying.Output(), "msg=listening") {
			return fmt.Errorf("it doesn't serve yet")
		}
		return nil
	})
	dying.Kill()
	before.MustOK("NOOP")
	for range 5 {
		if err := oneLogin(p.Plain, s.User(6)); err != nil {
			t.Error(err)
		}
	}

	// And one that dies when the old one has left already: the old one comes back. Clients that connect meanwhile aren't refused.
	first := p.Process
	p.succeed(t)
	p.Process.Kill()
	p.Process = first
	if err := oneLogin(p.Plain, s.User(6)); err != nil {
		t.Error(err)
	}
	p.says(t, "this one serves again")
	clients, longest := connected()
	t.Logf("%d clients connected while two new processes died, and waited %v for the greeting at most", clients, longest)
	before.MustOK("NOOP")
	if err := oneLogin(p.Plain, s.User(6)); err != nil {
		t.Error(err)
	}
	p.waitReady(t)
	p.succeed(t)
	before.MustOK("NOOP")
	if err := oneLogin(p.Plain, s.User(6)); err != nil {
		t.Error(err)
	}
}

// The time for a hand-over is over: the sessions end with BYE, the process with them.
func TestUpgradeEndsTheOldProcessInTime(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	s := servers.StartDovecot(t, servers.DovecotOptions{Store: "sdbox"})
	p := startProxy(t, proxyOptions{Backends: []backend{{ID: "d1", Address: s.Addr}}, Stays: true, Shutdown: handingOver(t, "300ms")})
	var clients []*imaptest.Client
	for range 3 {
		c := imaptest.Dial(t, p.Plain)
		c.Login(s.User(1), servers.Password)
		clients = append(clients, c)
	}
	old := p.succeed(t)
	for _, c := range clients {
		if r := c.Read(); r.Status() != "BYE" || r.Code() != "UNAVAILABLE" {
			t.Errorf("%s, wanted BYE [UNAVAILABLE]", r)
		}
	}
	<-old.Done()
	if err := oneLogin(p.Plain, s.User(1)); err != nil {
		t.Error(err)
	}
	// SIGTERM of the new one ends all.
	if err := syscall.Kill(p.Pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
}

// systemd's part, without systemd: it passes the listening sockets and hears which process is the main one.
func TestUpgradeUnderAServiceManager(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	s := servers.StartDovecot(t, servers.DovecotOptions{Store: "sdbox"})
	p := startProxy(t, proxyOptions{Backends: []backend{{ID: "d1", Address: s.Addr}}, Shutdown: handingOver(t, "10m")})
	p.Process.Stop()

	var files []*os.File
	for _, address := range []string{p.Plain, p.TLS} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		defer l.Close()
		files = append(files, f)
	}
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: handoverSocket(t), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	hears := func(part string) string {
		t.Helper()
		buf := make([]byte, 4096)
		_ = told.SetReadDeadline(time.Now().Add(time.Minute))
		for {
			n, err := told.Read(buf)
			if err != nil {
				t.Fatalf("the service manager doesn't hear %s: %v", part, err)
			}
			if strings.Contains(string(buf[:n]), part) {
				return string(buf[:n])
			}
		}
	}
	// The process id is known only once it runs.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config "$1"`, os.Getenv(proxyBinary), p.Config)
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=imapproxy-lb.socket:imapproxy-lb.socket", "NOTIFY_SOCKET="+told.LocalAddr().String())
	cmd.ExtraFiles = files
	p.Process = servers.Start(t, "imapproxy", cmd)
	hears("READY=1")
	if err := oneLogin(p.Plain, s.User(1)); err != nil {
		t.Error(err)
	}
	before := imaptest.Dial(t, p.Plain)
	before.Login(s.User(2), servers.Password)

	out, err := exec.Command(os.Getenv(proxyBinary), "upgrade", "--config", p.Config).CombinedOutput()
	if err != nil {
		t.Fatalf("imapproxy upgrade: %v\n%s", err, out)
	}
	main := strings.TrimSpace(strings.TrimPrefix(hears("MAINPID="), "MAINPID="))
	hears("READY=1")
	if !strings.Contains(string(out), "pid "+main) {
		t.Errorf("the main process is %s; imapproxy upgrade says %s", main, out)
	}
	before.MustOK("NOOP")
	if err := oneLogin(p.Plain, s.User(1)); err != nil {
		t.Error(err)
	}
}

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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

// stream is a stream of clients that log in, one after the other.
type stream struct {
	logins  atomic.Int64
	failure atomic.Pointer[error]
	running sync.WaitGroup
	end     chan struct{}
}

// logins begins streams of logins; stop ends them.
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
				if err := oneLogin(p.Plain, s.User(i+6)); err != nil {
					l.failure.CompareAndSwap(nil, &err)
					return
				}
				l.logins.Add(1)
			}
		})
	}
	return l
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

// Three upgrades in a row, and attempts that fail, while clients log in and work: no client is refused, and none loses an answer.
func TestUpgradeUnderLoad(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	s := servers.StartDovecot(t, servers.DovecotOptions{Store: "sdbox"})
	p := startProxy(t, proxyOptions{Backends: []backend{{ID: "d1", Address: s.Addr}}, Linger: "10ms", Shutdown: handingOver(t, "10m")})
	end := make(chan struct{})
	var all []*outliver
	var running sync.WaitGroup
	for i := range 8 {
		o := &outliver{user: s.User(i%5 + 1), n: i}
		all = append(all, o)
		o.connect(t, p.Plain)
		running.Go(func() {
			if i < 6 {
				o.work(end)
			} else {
				o.idle(end)
			}
		})
	}
	worked := func() {
		t.Helper()
		before := make([]int64, 6)
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
	l := logins(t, p, s, 3)
	var old []*servers.Process
	for range 3 {
		l.more(t, p, 5)
		old = append(old, p.succeed(t))
		worked()
	}
	l.more(t, p, 5)
	for i, o := range old {
		select {
		case <-o.Done():
			t.Errorf("process %d has ended, and had sessions", i)
		default:
		}
	}
	l.stop(t)
	close(end)
	running.Wait()
	for _, o := range all {
		if err := o.ended.Load(); err != nil {
			t.Errorf("client %d (%s): %v", o.n, o.user, *err)
		}
		_ = o.conn.Close()
	}
	// Without sessions the old processes end, the first one first.
	for i, o := range old {
		p.eventually(t, "the old process's end", func() error {
			select {
			case <-o.Done():
				return nil
			default:
				return fmt.Errorf("process %d serves on", i)
			}
		})
	}
	if err := oneLogin(p.Plain, s.User(1)); err != nil {
		t.Error(err)
	}
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

	// This one serves already when it is killed. Clients that it had accepted are lost with it, so none connects.
	l.stop(t)
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

	// And one that dies when the old one has left already: the old one comes back.
	first := p.Process
	p.succeed(t)
	p.Process.Kill()
	p.Process = first
	p.says(t, "this one serves again")
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

package servers

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout is how long a server may take until it accepts connections, on a
// busy machine, and when it has to wait for another test's (see courierInPlace).
const startTimeout = 3 * time.Minute

// A Process is a server's main process. It is ended with the test, and only it
// and the process group that it leads.
type Process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	logs []string      // files shown when the test fails
	done chan struct{} // closed when the process has ended; Wait's goroutine does it
	once sync.Once
}

// Start runs cmd in a process group of its own and ends it with the test. The
// logs are files that are shown, with the output, when the test has failed.
func Start(t testing.TB, name string, cmd *exec.Cmd, logs ...string) *Process {
	t.Helper()
	// A file and no pipe: a server's children may hold it open for as long as they like.
	out, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := &Process{t: t, name: name, cmd: cmd, logs: append(logs, out.Name()), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	// A test that is killed takes its servers along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	// Owned by p; ends with the process; closes done.
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // the exit status doesn't matter: the tests see the answers
	}()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			p.showLogs()
		}
	})
	return p
}

// Pid is the process's id, also that of the group that it leads.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is what the process ended with, once it is Done.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Stop asks the process to end, then makes it, and waits for the end.
func (p *Process) Stop() {
	p.once.Do(func() {
		pid := p.cmd.Process.Pid
		// It may have been stopped (SIGSTOP) by the test.
		_ = syscall.Kill(-pid, syscall.SIGCONT)
		_ = syscall.Kill(pid, syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
		}
		// The rest of the process group, which no other process can have joined.
		if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			p.t.Errorf("end %s: %v", p.name, err)
		}
		<-p.done
	})
}

// Kill ends the process group as SIGKILL does, and waits for the end of the process that leads it.
func (p *Process) Kill() {
	p.once.Do(func() {
		if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			p.t.Errorf("kill %s: %v", p.name, err)
		}
		<-p.done
	})
}

// KillLeader kills the main process alone, as SIGKILL does, and waits for its end. Then its children are asked to end,
// as systemd does with what is left of a unit (KillMode=control-group): by themselves Dovecot's go on for up to 30 s,
// and no other one starts meanwhile.
func (p *Process) KillLeader() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	<-p.done
	if err := syscall.Kill(-p.Pid(), syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		p.t.Fatal(err)
	}
}

// Output returns the output of the process.
func (p *Process) Output() string {
	p.t.Helper()
	return readFile(p.t, p.logs[len(p.logs)-1])
}

// Freeze has the process and its children do nothing until they are thawed, or stopped.
func (p *Process) Freeze() { p.signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (p *Process) Thaw() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := syscall.Kill(-p.Pid(), s); err != nil {
		p.t.Fatal(err)
	}
	// PostgreSQL's children lead groups of their own.
	for _, pid := range strings.Fields(readFile(p.t, fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", p.Pid()))) {
		if n, err := strconv.Atoi(pid); err == nil {
			_ = syscall.Kill(n, s) // it may have ended meanwhile
		}
	}
}

func (p *Process) showLogs() {
	for _, f := range p.logs {
		if b, err := os.ReadFile(f); err == nil && len(b) > 0 {
			p.t.Logf("%s, the end of %s:\n%s", p.name, filepath.Base(f), tail(b, 60))
			if bytes.Contains(b, []byte("Inotify instance limit")) {
				p.t.Logf("%s tells clients in IDLE of changes with a delay of up to 30 s: its user has too many inotify instances. "+
					"Raise /proc/sys/fs/inotify/max_user_instances, or run fewer servers at a time", p.name)
			}
		}
	}
}

func tail(b []byte, lines int) string {
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// WaitPort connects until the address answers with a greeting line, so that
// the port is known to be served and not just bound.
func (p *Process) WaitPort(addr string) {
	p.t.Helper()
	p.wait(addr, func() error { return greets(addr) })
}

// wait tries until there is no error, and fails the test when the process has ended before.
func (p *Process) wait(addr string, try func() error) {
	p.t.Helper()
	deadline := time.Now().Add(startTimeout)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-p.done:
			p.showLogs()
			p.t.Fatalf("%s ended before it served %s", p.name, addr)
		case <-time.After(20 * time.Millisecond): // between two attempts to connect
		}
		if time.Now().After(deadline) {
			p.showLogs()
			p.t.Fatalf("%s doesn't serve %s after %v: %v", p.name, addr, startTimeout, err)
		}
	}
}

func greets(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	b := make([]byte, 512)
	n, err := c.Read(b)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(b[:n], []byte("* ")) && !bytes.HasPrefix(b[:n], []byte("220 ")) {
		return fmt.Errorf("greeting %q", b[:n])
	}
	_, _ = c.Write([]byte("x LOGOUT\r\n")) // a courtesy to the log
	return nil
}

// portsEach is how many ports one process may have: the tests of package e2e take a thousand.
const portsEach = 2500

// given are the ports that FreeAddr has handed out in this process.
var given sync.Map

// FreeAddr is a loopback address that nothing listens on. It lies below the
// ports that the kernel gives out by itself, so no other test's port 0 gets it
// between our look and the server's bind; nor does another FreeAddr: in this process
// none is handed out twice, and processes choose from parts of their own, by their ids.
func FreeAddr(t testing.TB) (addr, port string) {
	t.Helper()
	first := rand.IntN(portsEach)
	for i := range portsEach {
		n := 12000 + os.Getpid()%(20000/portsEach)*portsEach + (first+i)%portsEach
		if _, taken := given.LoadOrStore(n, true); taken {
			continue
		}
		addr = fmt.Sprintf("127.0.0.1:%d", n)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = l.Close() // it was only looked at
		_, port, _ = net.SplitHostPort(addr)
		return addr, port
	}
	t.Fatal("no free loopback port between 12000 and 32000")
	return "", ""
}

// Folder makes a folder that servers running as other users may enter. Its
// path is short: Unix sockets in it have 108 bytes for theirs.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "imap-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove %s: %v", dir, err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// write makes a file, and the folders that it is in.
func write(t testing.TB, path, content string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t testing.TB, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.MkdirAll(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// run runs a command to its end and fails the test when it fails.
func run(t testing.TB, input, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// readFile is a file's content.
func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

package handover

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// command starts a command that only ends when it is killed.
func command(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() }) // it may have ended
	return cmd
}

func find(t *testing.T, pid int) *Process {
	t.Helper()
	p, err := Find(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// inTime returns a context for the wait for an end.
func inTime(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// lives fails the test if a process is said to have ended.
func lives(t *testing.T, p *Process) {
	t.Helper()
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Ended(over); !errors.Is(err, context.Canceled) {
		t.Errorf("it lives: %v", err)
	}
}

func TestEndOfAProcess(t *testing.T) {
	cmd := command(t)
	p, none := find(t, cmd.Process.Pid), find(t, cmd.Process.Pid)
	lives(t, p)
	none.Close()
	none.began, _ = beganAt(none.pid)
	lives(t, none)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Process{p, none, find(t, cmd.Process.Pid)} { // its parent doesn't wait for it
		if err := p.Ended(inTime(t)); err != nil {
			t.Error(err)
		}
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	}
	_ = cmd.Wait() // it was killed
	if err := find(t, cmd.Process.Pid).Ended(inTime(t)); err != nil {
		t.Error(err)
	}
	if _, err := Find(0); err == nil { // what the kernel says of one in another namespace
		t.Error("a process without a number is found")
	}
}

// The number of a process that has ended is another one's by now. That one isn't waited for, nor killed.
func TestAnotherProcessHasTheNumber(t *testing.T) {
	for what, without := range map[string]func(*Process){
		"a descriptor": func(*Process) {},
		"/proc": func(p *Process) {
			p.Close()
			p.began, _ = beganAt(p.pid)
			p.session = -1
		},
		"the session": func(p *Process) { p.Close() },
	} {
		cmd, other := command(t), os.Getppid() // it began earlier
		p := find(t, cmd.Process.Pid)
		without(p)
		if p.session >= 0 {
			p.session = p.pid // as it is where a process has begun a session
		}
		if err := errors.Join(cmd.Process.Kill(), ended(cmd)); err != nil {
			t.Fatal(err)
		}
		p.pid = other
		err := p.Ended(inTime(t))
		if err == nil {
			err = p.Kill()
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// ended waits for a command that was killed.
func ended(cmd *exec.Cmd) error {
	var killed *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &killed) {
		return errors.Join(errors.New("it wasn't killed"), err)
	}
	return nil
}

// A process that has run out of descriptors finds another one all the same, and sees its end.
func TestAProcessIsFoundWithoutDescriptors(t *testing.T) {
	cmd := command(t)
	var usual unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &usual); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: 3, Max: usual.Max}
	limit := func(l *unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, l); err != nil {
			t.Fatal(err)
		}
	}
	limit(&few)
	defer limit(&usual)
	p := find(t, cmd.Process.Pid)
	if p.fd >= 0 || p.began != "" || p.session < 0 {
		t.Errorf("it has descriptors: %+v", p)
	}
	lives(t, p)
	limit(&usual)
	lives(t, p)
	if p.fd < 0 {
		t.Error("once there are descriptors none is opened")
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Ended(inTime(t)); err != nil {
		t.Error(err)
	}
}

package app

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"imapproxy/internal/handover"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
	"imapproxy/proxy"
	"imapproxy/routing"
)

// process starts a process that ends only when it is killed, and stands for one of the proxy's.
func process(t testing.TB) *handover.Process {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	p, err := handover.Find(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// takes takes over from a process as a successor of a release does.
func takes(t testing.TB, socket string, says ...string) *handover.Conn {
	t.Helper()
	k := ask(t, socket, handover.Message{Do: "take"})
	hears(t, k, "sockets")
	for _, do := range says {
		if err := k.Send(handover.Message{Do: do}, nil); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// A successor ends. The process before it serves again, unless another one serves: then two would decide where users are. Where the connection had broken
// before, that one may begin to listen later, and it is waited for; else clients, who can connect meanwhile, wait for nothing. The number of the process that
// has ended is another one's by now (the test's own, in place of the successor's).
func TestAProcessServesAgainOnlyWhereNoOtherOneServes(t *testing.T) {
	for what, is := range map[string]struct{ broken, another, later bool }{
		"no other process serves":                      {},
		"no other process serves, after a break":       {broken: true},
		"another process serves":                       {another: true},
		"another process listens later, after a break": {broken: true, another: true, later: true},
	} {
		t.Run(what, func(t *testing.T) {
			imaptest.VerifyNoLeaks(t)
			server := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
			text, socket := handingOver(t, server.Addr)
			a := open(t, Options{File: file(t, text)})
			successor := process(t)
			if a.beside.alone = time.Hour; is.broken && !is.another {
				a.beside.alone = time.Millisecond
			}
			a.beside.find = func(int) (*handover.Process, error) { return handover.Find(successor.PID()) }
			running := task.Start(a.Run)
			<-a.Ready()
			client := imaptest.Dial(t, a.Addrs()["plain"])
			client.Login("user1", "secret") // the process stays for it
			k := takes(t, socket, "begin", "ready")
			imaptest.Eventually(t, "the successor serves", a.beside.passed.Load)
			listen := func() *handover.Listener {
				l, err := handover.Listen(socket)
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
			if is.broken { // it is dialled again, in vain: after the second time it is known that the successor has outlived its connection
				l := listen()
				_ = k.Close()
				for range 2 {
					again, _, err := l.Accept()
					if err != nil {
						t.Fatal(err)
					}
					_ = again.Close()
					again.Drop()
				}
				_ = l.Close()
			}
			if is.another && !is.later {
				l := listen()
				defer l.Close()
			}
			client.MustOK("NOOP")
			if err := successor.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = k.Close()
			if is.later {
				imaptest.Eventually(t, "the end is seen", func() (seen bool) {
					a.beside.step(func() { seen = a.beside.leaving == nil })
					return seen
				})
				l := listen()
				defer l.Close()
			}
			if is.another {
				client.Expect(`/\* BYE .*/`)
				<-running.Done()
				if !a.beside.passed.Load() {
					t.Error("it has served again")
				}
			} else {
				imaptest.Dial(t, a.Addrs()["plain"]).Login("user2", "secret")
				client.MustOK("NOOP")
			}
			end(t, a, running)
		})
	}
}

// A process tells those before it whether it has a successor, also once more where the connection has broken, and before its successor serves: it may end
// at any time from then on.
func TestOlderProcessesHearWhetherThereIsASuccessor(t *testing.T) {
	text, socket := handingOverAlone(t)
	path := file(t, text)
	old, oldRuns := serving(t, Options{File: path})
	client := imaptest.Dial(t, old.Addrs()["plain"])
	client.Login("user1", "secret") // the old process stays for it
	serves := make(chan string, 8)
	fresh := open(t, Options{File: path, Trial: time.Millisecond, Notify: func(state string) error { serves <- state; return nil }})
	stands := process(t)
	fresh.beside.find = func(int) (*handover.Process, error) { return handover.Find(stands.PID()) } // in place of the last process, which is the test
	freshRuns := task.Start(fresh.Run)
	for !strings.Contains(<-serves, "READY=1") {
	}
	last := takes(t, socket)
	apart := func(while func()) {
		t.Helper()
		if err := os.Rename(socket, socket+".away"); err != nil { // the old process can't connect again for now
			t.Fatal(err)
		}
		_ = fresh.beside.before()[0].link.Load().k.Close()
		before := old.beside.orphaned.Load()
		while()
		if old.beside.orphaned.Load() != before {
			t.Error("the old process was told over a broken connection")
		}
		if err := os.Rename(socket+".away", socket); err != nil {
			t.Fatal(err)
		}
	}
	apart(func() {
		if err := last.Send(handover.Message{Do: "begin"}, nil); err != nil {
			t.Fatal(err)
		}
		hears(t, last, "has")
		hears(t, last, "begun")
	})
	imaptest.Eventually(t, "the old process knows that its successor has one", old.beside.orphaned.Load)
	apart(func() {
		if err := stands.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = last.Close()
		imaptest.Eventually(t, "the last process counts as ended", func() bool { return !fresh.beside.handing.Load() })
	})
	imaptest.Eventually(t, "the old process knows that its successor has none", func() bool { return !old.beside.orphaned.Load() })
	client.MustOK("NOOP")
	end(t, fresh, freshRuns)
	end(t, old, oldRuns)
}

// An old process breaks off between the new one's "ready" and its own "leaving". The new one doesn't wait for that in vain, and listens for its successor.
func TestAProcessListensOnceTheOldOneHasBrokenOff(t *testing.T) {
	text, socket := handingOverAlone(t)
	l, err := handover.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	broken := make(chan time.Time, 1)
	old := task.Start(func(context.Context) error { // the old process's part
		k, refused, err := l.Accept()
		if err := errors.Join(refused, err); err != nil {
			return err
		}
		defer k.Drop()
		defer k.Close()
		for {
			m, _, err := k.Receive(time.Now().Add(patience))
			answer := map[string]string{"take": "sockets", "begin": "begun"}[m.Do]
			switch {
			case err != nil:
				return err
			case m.Do == "ready":
				broken <- time.Now()
				return nil
			case answer != "":
				if err := k.Send(handover.Message{Do: answer, Format: handover.Format}, nil); err != nil {
					return err
				}
			}
		}
	})
	serves := make(chan string, 8)
	a := open(t, Options{File: file(t, text), Trial: time.Millisecond, Notify: func(state string) error { serves <- state; return nil }})
	running := task.Start(a.Run)
	at := <-broken
	if err := old.Stop(); err != nil {
		t.Error(err)
	}
	for !strings.Contains(<-serves, "READY=1") {
	}
	if waited := time.Since(at); waited >= answerWithin {
		t.Errorf("it has waited %v for a process that had broken off", waited)
	}
	_ = ask(t, socket, handover.Message{Do: "nothing"})
	end(t, a, running)
}

// A container ends with its first process, so that one hands nothing over, and says what to do instead.
func TestTheFirstProcessOfAContainerHandsNothingOver(t *testing.T) {
	text, socket := handingOverAlone(t)
	a := open(t, Options{File: file(t, text), Restart: func() (Started, error) { return Started{}, errors.New("another process was started") }})
	a.beside.first = true
	running := task.Start(a.Run)
	<-a.Ready()
	for _, do := range []string{"upgrade", "take"} {
		if m := hears(t, ask(t, socket, handover.Message{Do: do}), "refused"); !strings.Contains(m.Text, "start another container") {
			t.Errorf("%s: %q", do, m.Text)
		}
	}
	imaptest.Dial(t, a.Addrs()["plain"]).Login("user1", "secret")
	end(t, a, running)
}

// An older process ends, and its number is another one's by now (the test's own): the new process sees the end.
func TestTheEndOfAnOlderProcessIsSeen(t *testing.T) {
	text, _ := handingOverAlone(t)
	path := file(t, text)
	old, oldRuns := serving(t, Options{File: path})
	client := imaptest.Dial(t, old.Addrs()["plain"])
	client.Login("user1", "secret") // the old process stays for it
	fresh := open(t, Options{File: path, Trial: time.Millisecond})
	o, stands := fresh.beside.before()[0], process(t)
	o.forget()
	o.processes = []*handover.Process{stands}
	freshRuns := task.Start(fresh.Run)
	imaptest.Eventually(t, "the new process serves", old.beside.passed.Load)
	imaptest.Eventually(t, "the user is known", func() bool { return fresh.beside.table.Where("user1") == "b1" })
	end(t, old, oldRuns)
	select {
	case <-o.ended:
		t.Error("the old process lives, and counts as ended")
	default:
	}
	if err := syscall.Kill(stands.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-o.ended:
	case <-time.After(patience):
		t.Fatal("the end of the old process isn't seen")
	}
	if at := fresh.beside.table.Where("user1"); at != "" || len(fresh.beside.before()) > 0 {
		t.Errorf("the user counts as being at %q", at)
	}
	end(t, fresh, freshRuns)
}

// A process stops while its successor serves on trial: it keeps no listening socket, whatever becomes of the successor. While one is open clients
// connect, and wait for a greeting that never comes.
func TestAProcessThatStopsDuringATrialKeepsNoListeningSocket(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	server := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
	tap := imaptest.NewTap(t, server.Addr)
	text, socket := handingOver(t, tap.Addr)
	a := open(t, Options{File: file(t, strings.Replace(text, `"200ms"`, `"1h"`, 1))})
	a.beside.kill = func(*handover.Process) error { return nil } // the successor is this process
	running := task.Start(a.Run)
	<-a.Ready()
	client := imaptest.Dial(t, a.Addrs()["plain"])
	client.Login("user1", "secret")
	reached, release := make(chan struct{}), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	defer letGo()
	tap.Once("NOOP", func() {
		close(reached)
		<-release
	})
	client.Write("x1 NOOP")
	<-reached
	k := takes(t, socket, "begin")
	for m := (handover.Message{}); m.Do != "begun"; {
		var err error
		if m, _, err = k.Receive(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- running.Stop() }() // ends with the session
	imaptest.Eventually(t, "clients are refused", func() bool {
		c, err := net.DialTimeout("tcp", a.Addrs()["plain"], time.Second)
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	letGo()
	client.Expect(`/x1 OK .*/`)
	client.Expect(`/\* BYE .*/`)
	_ = client.Close()
	if err := errors.Join(<-ended, a.Close()); err != nil {
		t.Error(err)
	}
}

// A kick while a new process serves on trial, which the old process's admin API is asked for, ends sessions of both.
func TestAKickReachesAProcessOnTrial(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	server := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
	text, _ := handingOver(t, server.Addr)
	path := file(t, text)
	old, oldRuns := serving(t, Options{File: path})
	before := imaptest.Dial(t, old.Addrs()["plain"])
	before.Login("user1", "secret")
	fresh := open(t, Options{File: path, Trial: time.Hour})
	freshRuns := task.Start(fresh.Run)
	<-fresh.beside.before()[0].begun
	old.beside.step(old.server.Pause) // so that the new one accepts the next client
	client := imaptest.Dial(t, old.Addrs()["plain"])
	client.Login("user2", "secret")
	if n := fresh.server.Status().Sessions; n != 1 {
		t.Fatalf("the new process has %d sessions", n)
	}
	if at := fresh.flush("user1").Pin; at != routing.FlushedLater { // the old process still has a session of the user
		t.Errorf("the pin goes %s", at)
	}
	old.kick(t.Context(), proxy.Kick{Backend: "b1"})
	for _, c := range []*imaptest.Client{before, client} {
		c.Expect(`/\* BYE .*/`)
	}
	if err := freshRuns.Stop(); !errors.Is(err, context.Canceled) { // within its trial
		t.Error(err)
	}
	if err := fresh.Close(); err != nil {
		t.Error(err)
	}
	end(t, old, oldRuns)
}

// The hand-over socket's file was deleted: a reload makes it again, and an upgrade is possible.
func TestAReloadMakesTheHandoverSocketAgain(t *testing.T) {
	text, socket := handingOverAlone(t)
	path := file(t, text)
	old, oldRuns := serving(t, Options{File: path})
	if err := old.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	waits := ask(t, socket, handover.Message{Do: "take"}) // the socket is the one of before, and the connection outlives the file
	hears(t, waits, "sockets")
	_ = waits.Close()
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	if err := old.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh, freshRuns := upgraded(t, old, path)
	if err := old.Reload(t.Context()); err != nil && !errors.Is(err, ErrEnding) { // it listens there no more
		t.Fatal(err)
	}
	imaptest.Dial(t, fresh.Addrs()["plain"]).Login("user1", "secret")
	end(t, fresh, freshRuns)
	end(t, old, oldRuns)
}

// The hand-over socket's file is deleted while a successor is connected, and can't be made again: that successor takes over all the same.
func TestAHandoverUnderWayNeedsNoSocket(t *testing.T) {
	text, socket := handingOverAlone(t)
	a, running := serving(t, Options{File: file(t, text)})
	imaptest.Dial(t, a.Addrs()["plain"]).Login("user1", "secret") // the process stays for it
	k := takes(t, socket)
	if err := errors.Join(os.Remove(socket), os.MkdirAll(filepath.Join(socket+".new", "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, do := range []string{"begin", "ready"} {
		if err := k.Send(handover.Message{Do: do}, nil); err != nil {
			t.Fatal(err)
		}
	}
	imaptest.Eventually(t, "the successor serves", a.beside.passed.Load)
	end(t, a, running)
}

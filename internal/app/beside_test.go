package app

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/handover"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// handingOver returns a configuration with one backend, and its hand-over socket.
func handingOver(t testing.TB, backend string) (text, socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "h") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	return strings.Replace(settings(backend), `drain = "200ms"`, "drain = \"200ms\"\n  handover_socket = \""+socket+"\"", 1), socket
}

// handingOverAlone is handingOver with a backend that no other test uses, and checks that the test leaks nothing.
func handingOverAlone(t testing.TB) (text, socket string) {
	t.Helper()
	imaptest.VerifyNoLeaks(t)
	return handingOver(t, imaptest.NewModelServer(t, imaptest.ModelServerOptions{}).Addr)
}

// serving opens a process of a proxy, and runs it. It returns once the process knows its backends.
func serving(t testing.TB, o Options) (*App, *task.Task) {
	t.Helper()
	a := open(t, o)
	running := task.Start(a.Run)
	<-a.Ready()
	return a, running
}

// upgraded starts a new process in place of an old one, and waits until it serves.
func upgraded(t testing.TB, old *App, file string) (*App, *task.Task) {
	t.Helper()
	fresh := open(t, Options{File: file, Trial: time.Millisecond})
	running := task.Start(fresh.Run)
	imaptest.Eventually(t, "the new process serves", old.beside.passed.Load)
	return fresh, running
}

// ask connects to a process as another one does, and sends the first message.
func ask(t testing.TB, socket string, m handover.Message) *handover.Conn {
	t.Helper()
	k, err := handover.Dial(t.Context(), socket)
	if err != nil || k == nil {
		t.Fatalf("no process listens: %v %v", k, err)
	}
	t.Cleanup(func() { _ = k.Close(); k.Drop() })
	m.Format = handover.Format
	if err := k.Send(m, nil); err != nil {
		t.Fatal(err)
	}
	return k
}

// hears waits for a message.
func hears(t testing.TB, k *handover.Conn, do string) handover.Message {
	t.Helper()
	m, sockets, err := k.Receive(time.Now().Add(patience))
	sockets.Close()
	if err != nil || m.Do != do {
		t.Fatalf("%+v %v, want %s", m, err, do)
	}
	return m
}

// A connection between two processes breaks, and both live. It is made again: the old one can ask where users are, and the new one knows
// what the old one has had and has ended meanwhile.
func TestABrokenConnectionBetweenProcessesIsMadeAgain(t *testing.T) {
	text, _ := handingOverAlone(t)
	path := file(t, text)
	old, oldRuns := serving(t, Options{File: path})
	client := imaptest.Dial(t, old.Addrs()["plain"])
	client.Login("user1", "secret") // the old process stays for it
	fresh, freshRuns := upgraded(t, old, path)
	claimed := func(user string) {
		t.Helper()
		imaptest.Eventually(t, "a claim of the old process", func() bool {
			at, err := old.beside.table.Claim(t.Context(), user, "b1")
			return at == "" && err == nil
		})
	}
	claimed("bob")
	for _, side := range []*App{old, fresh} {
		side.beside.mu.Lock()
		for k := range side.beside.conns {
			_ = k.Close()
		}
		side.beside.mu.Unlock()
		old.beside.table.Release("bob", "b1")
		claimed("ann")
		for user, want := range map[string]string{"ann": "b1", "bob": "", "user1": "b1"} {
			imaptest.Eventually(t, user+" is known to be at "+want, func() bool { return fresh.beside.table.Where(user) == want })
		}
		claimed("bob")
	}
	client.MustOK("NOOP")
	if _, err := old.beside.table.Claim(t.Context(), "ann", "b1"); err != nil {
		t.Error(err)
	}
	end(t, fresh, freshRuns)
	end(t, old, oldRuns)
}

// Another process takes over than the one that an upgrade has started: the upgrade says so, and a second one at the same time is refused.
func TestAnUpgradeSaysWhoHasTakenOver(t *testing.T) {
	text, socket := handingOverAlone(t)
	path := file(t, text)
	over := make(chan struct{})
	old, oldRuns := serving(t, Options{File: path, Restart: func() (Started, error) {
		return Started{PID: 1 << 30, Wait: func() error { <-over; return nil }}, nil // no process has this number
	}})
	client := imaptest.Dial(t, old.Addrs()["plain"])
	client.Login("user1", "secret")
	one := ask(t, socket, handover.Message{Do: "upgrade"})
	hears(t, one, "started")
	two := ask(t, socket, handover.Message{Do: "upgrade"})
	if m := hears(t, two, "refused"); !strings.Contains(m.Text, "another upgrade is under way") {
		t.Errorf("the second upgrade is told %q", m.Text)
	}
	fresh := open(t, Options{File: path, Trial: time.Millisecond})
	freshRuns := task.Start(fresh.Run)
	if m := hears(t, one, "refused"); !strings.Contains(m.Text, "another process has taken over") {
		t.Errorf("the first upgrade is told %q", m.Text)
	}
	imaptest.Dial(t, fresh.Addrs()["plain"]).Login("user2", "secret")
	end(t, fresh, freshRuns)
	end(t, old, oldRuns)
	close(over)
}

// A process that has asked to take over and then hangs keeps no other one from it for long.
func TestAProcessThatFallsSilentDoesNotTakeOver(t *testing.T) {
	text, socket := handingOverAlone(t)
	a := open(t, Options{File: file(t, text)})
	a.beside.silence = 50 * time.Millisecond
	running := task.Start(a.Run)
	<-a.Ready()
	silent := ask(t, socket, handover.Message{Do: "take"})
	hears(t, silent, "sockets")
	if m, _, err := silent.Receive(time.Now().Add(patience)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("it isn't given up: %+v %v", m, err)
	}
	hears(t, ask(t, socket, handover.Message{Do: "take"}), "sockets")
	end(t, a, running)
}

// A process that serves on trial and then hangs is ended: until then users can't log in at the old one. Signs of life keep it.
func TestAProcessThatFallsSilentOnTrialIsEnded(t *testing.T) {
	text, socket := handingOverAlone(t)
	a := open(t, Options{File: file(t, text)})
	killed := make(chan int, 1)
	a.beside.silence, a.beside.kill = 500*time.Millisecond, func(p *handover.Process) error { killed <- p.PID(); return nil }
	running := task.Start(a.Run)
	<-a.Ready()
	silent := ask(t, socket, handover.Message{Do: "take"})
	hears(t, silent, "sockets")
	begun := time.Now()
	for _, do := range []string{"starting", "begin", "starting", "starting"} {
		if err := silent.Send(handover.Message{Do: do}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if pid := <-killed; pid != os.Getpid() || time.Since(begun) < a.beside.silence {
		t.Errorf("process %d is ended after %v", pid, time.Since(begun))
	}
	end(t, a, running)
}

// What waits for a process that doesn't read is bounded: then the connection is given up.
func TestWhatWaitsForAProcessIsBounded(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	_, socket := handingOver(t, "")
	l, err := handover.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan *handover.Conn, 1)
	go func() {
		k, _, _ := l.Accept()
		accepted <- k
	}()
	k, err := handover.Dial(context.Background(), socket)
	if err != nil || k == nil {
		t.Fatal(k, err)
	}
	peer := <-accepted
	defer peer.Close()
	up := newLink(k)
	defer up.end()
	for n := 0; ; n++ {
		select {
		case <-up.done.Done():
			return
		default:
		}
		if n > 16*maxQueued {
			t.Fatalf("%d messages wait", n)
		}
		up.Release("ann", "b1")
	}
}

// A process without sessions ends as soon as another one has taken over. The upgrade is told that it was made.
func TestAnUpgradeOfAnIdleProxyIsTold(t *testing.T) {
	text, socket := handingOverAlone(t)
	path := file(t, text)
	over := make(chan struct{})
	old, oldRuns := serving(t, Options{File: path, Restart: func() (Started, error) {
		return Started{PID: os.Getpid(), Wait: func() error { <-over; return nil }}, nil
	}})
	k := ask(t, socket, handover.Message{Do: "upgrade"})
	hears(t, k, "started")
	fresh := open(t, Options{File: path, Trial: time.Millisecond})
	freshRuns := task.Start(fresh.Run)
	hears(t, k, "done")
	<-oldRuns.Done()
	end(t, fresh, freshRuns)
	end(t, old, oldRuns)
	close(over)
}

// A process that an upgrade has started hangs before it asks to take over: it is ended, the upgrade says so, and the next one may begin.
func TestAStartedProcessThatHangsIsEnded(t *testing.T) {
	text, socket := handingOverAlone(t)
	killed := make(chan struct{}, 2)
	a := open(t, Options{File: file(t, text), Restart: func() (Started, error) {
		dead := make(chan struct{})
		return Started{PID: 1 << 30, Wait: func() error { <-dead; return nil }, Kill: func() error { close(dead); killed <- struct{}{}; return nil }}, nil
	}})
	a.beside.asks = 50 * time.Millisecond
	running := task.Start(a.Run)
	<-a.Ready()
	for range 2 {
		k := ask(t, socket, handover.Message{Do: "upgrade"})
		hears(t, k, "started")
		if m := hears(t, k, "refused"); !strings.Contains(m.Text, "was ended") {
			t.Errorf("the upgrade is told %q", m.Text)
		}
		<-killed
	}
	end(t, a, running)
}

// The folder of the hand-over socket has no room at the moment of an upgrade: the new process listens there once it can, so that the
// next upgrade is possible.
func TestAProcessListensForASuccessorOnceItCan(t *testing.T) {
	text, socket := handingOverAlone(t)
	path := file(t, text)
	old, oldRuns := serving(t, Options{File: path})
	inTheWay := filepath.Join(socket+".new", "x")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	serves := make(chan string, 8)
	fresh := open(t, Options{File: path, Trial: time.Millisecond, Notify: func(state string) error { serves <- state; return nil }})
	freshRuns := task.Start(fresh.Run)
	for !strings.Contains(<-serves, "READY=1") {
	}
	if k, err := handover.Dial(t.Context(), socket); k != nil || err != nil {
		t.Fatalf("a process listens: %v %v", k, err)
	}
	if err := os.RemoveAll(socket + ".new"); err != nil {
		t.Fatal(err)
	}
	imaptest.Eventually(t, "the process listens for its successor", func() bool {
		k, err := handover.Dial(t.Context(), socket)
		if k != nil {
			_ = k.Close()
		}
		return k != nil && err == nil
	})
	last, lastRuns := upgraded(t, fresh, path)
	end(t, last, lastRuns)
	end(t, fresh, freshRuns)
	end(t, old, oldRuns)
}

// A proxy that stops takes no more connections, though older processes of it still finish commands: while one of them keeps the listening sockets open,
// clients connect, and wait for a greeting that never comes.
func TestOlderProcessesThatStopKeepNoListeningSocket(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	server := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
	tap := imaptest.NewTap(t, server.Addr)
	release := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	defer letGo()
	text, socket := handingOver(t, tap.Addr)
	path := file(t, strings.Replace(text, `"200ms"`, `"1h"`, 1))
	var apps []*App
	var running []*task.Task
	var clients []*imaptest.Client
	for n := range 3 {
		a := open(t, Options{File: path, Trial: time.Millisecond})
		apps, running = append(apps, a), append(running, task.Start(a.Run))
		<-a.Ready()
		if n > 0 {
			imaptest.Eventually(t, "the new process serves", apps[n-1].beside.passed.Load)
		}
		if n == 2 {
			break
		}
		c := imaptest.Dial(t, a.Addrs()["plain"])
		c.Login("user1", "secret")
		reached := make(chan struct{})
		tap.Once("NOOP", func() {
			close(reached)
			<-release
		})
		c.Write("x1 NOOP")
		<-reached
		clients = append(clients, c)
	}
	address := apps[2].Addrs()["plain"]
	ended := make(chan error, 1)
	go func() { ended <- running[2].Stop() }()
	imaptest.Eventually(t, "clients are refused", func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	// A process that is started now is told at once why it can't take over.
	k := ask(t, socket, handover.Message{Do: "take"})
	if m := hears(t, k, "refused"); !strings.Contains(m.Text, "is ending") {
		t.Errorf("a process that would take over is told %q", m.Text)
	}
	letGo()
	for _, c := range clients {
		c.Expect(`/x1 OK .*/`)
		c.Expect(`/\* BYE .*/`)
		_ = c.Close()
	}
	if err := errors.Join(<-ended, apps[2].Close()); err != nil {
		t.Error(err)
	}
	for n := 1; n >= 0; n-- {
		<-running[n].Done() // without a signal to it
		end(t, apps[n], running[n])
	}
}

// What an operator pauses, or resumes, while a new process serves on trial, holds in that one as well.
func TestAPauseAndItsEndReachAProcessOnTrial(t *testing.T) {
	text, _ := handingOverAlone(t)
	path := file(t, text)
	old, oldRuns := serving(t, Options{File: path})
	fresh := open(t, Options{File: path, Trial: time.Hour})
	freshRuns := task.Start(fresh.Run)
	<-fresh.beside.before()[0].begun
	paused := func() bool {
		_, _, paused := fresh.router.Paused("b1")
		return paused
	}
	if _, err := (pauser{old}).Pause(t.Context(), admin.PauseRequest{Backend: "b1", For: "10m"}); err != nil {
		t.Fatal(err)
	}
	imaptest.Eventually(t, "the pause holds in the new process", paused)
	if _, err := (pauser{old}).Resume(t.Context(), admin.ResumeRequest{Backend: "b1"}); err != nil {
		t.Fatal(err)
	}
	imaptest.Eventually(t, "the pause has ended in the new process", func() bool { return !paused() })
	if err := freshRuns.Stop(); !errors.Is(err, context.Canceled) { // within its trial
		t.Error(err)
	}
	if err := fresh.Close(); err != nil {
		t.Error(err)
	}
	end(t, old, oldRuns)
}

// A listener isn't in the settings any more. Its socket is open as long as the old process, and its clients don't wait for a greeting.
func TestClientsOfAListenerThatIsGoneDoNotWait(t *testing.T) {
	text, _ := handingOverAlone(t)
	more := "\nlistener \"gone\" {\n  address = \"127.0.0.1:0\"\n  tls = \"none\"\n  cleartext_from = [\"127.0.0.0/8\"]\n}\n"
	old, oldRuns := serving(t, Options{File: file(t, text+more)})
	client := imaptest.Dial(t, old.Addrs()["gone"])
	client.Login("user1", "secret") // the old process stays for it
	fresh, freshRuns := upgraded(t, old, file(t, text))
	c, err := net.DialTimeout("tcp", old.Addrs()["gone"], patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client reads %d octets, %v", n, err)
	}
	client.MustOK("NOOP")
	end(t, fresh, freshRuns)
	end(t, old, oldRuns)
}

package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/config"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// patience bounds every wait of these tests; a busy machine with the race detector needs some.
const patience = 30 * time.Second

// settings is a configuration of one backend, on free ports.
func settings(backend string) string {
	return `
hostname = "imap.test"
listener "plain" {
  address        = "127.0.0.1:0"
  tls            = "none"
  cleartext_from = ["127.0.0.0/8"]
}
discovery "static" {
  backend "b1" {
    address = "` + backend + `"
  }
}
routing {
  storage = "shared"
}
admin {
  address = "127.0.0.1:0"
}
shutdown {
  drain = "200ms"
}
`
}

// file writes a configuration.
func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.hcl")
	write(t, path, text)
	return path
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, o Options) *App {
	t.Helper()
	o.Logs = t.Output()
	a, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// end ends an App that runs and fails the test if it can't.
func end(t testing.TB, a *App, running *task.Task) {
	t.Helper()
	if err := errors.Join(running.Stop(), a.Close()); err != nil {
		t.Error(err)
	}
}

// isFree fails the test when an address is bound.
func isFree(t testing.TB, what, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Errorf("%s is still bound: %v", what, err)
		return
	}
	_ = l.Close()
}

func TestAnAppThatNeverRanGivesItsAddressesBack(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	a := open(t, Options{File: file(t, settings("127.0.0.1:1"))})
	plain, api := a.Addrs()["plain"], a.AdminAddr()
	for range 2 { // again, it does nothing
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	isFree(t, "the listener", plain)
	isFree(t, "the admin API", api)
	if err := a.Run(t.Context()); err == nil {
		t.Error("it runs after Close")
	}
}

func TestAnOpenThatFailsLeavesNothing(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	api := free.Addr().String()
	_ = free.Close()
	path := file(t, strings.Replace(strings.Replace(settings("127.0.0.1:1"),
		"admin {\n  address = \"127.0.0.1:0\"", "admin {\n  address = \""+api+"\"", 1),
		"127.0.0.1:0", taken.Addr().String(), 1))
	_, err = Open(t.Context(), Options{File: path, Logs: t.Output()})
	if err == nil || !strings.Contains(err.Error(), path+":4: listener.plain.address: ") {
		t.Errorf("a listener's address is taken, and Open says %v", err)
	}
	isFree(t, "the admin API", api)
}

func TestWhatIsWrongWithAFileIsSaidAtOpen(t *testing.T) {
	var wrong config.Errors
	_, err := Open(t.Context(), Options{File: file(t, "hostnam = 1\nlisten {\n}\n"), Logs: t.Output()})
	if !errors.As(err, &wrong) || len(wrong) < 2 {
		t.Error(err)
	}
	if _, err := Open(t.Context(), Options{}); err == nil {
		t.Error("an App without a configuration")
	}
}

func TestReload(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	server := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
	text := settings(server.Addr)
	path := file(t, text)
	a := open(t, Options{File: path})

	// Before Run it waits, as long as it may.
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Reload(over); !errors.Is(err, context.Canceled) {
		t.Errorf("before Run: %v", err)
	}
	early := task.Start(a.Reload)
	running := task.Start(a.Run)
	<-early.Done()
	if err := early.Stop(); err != nil {
		t.Errorf("begun before Run: %v", err)
	}
	<-a.Ready()
	login := func() imaptest.Answer {
		return imaptest.Dial(t, a.Addrs()["plain"]).TryLogin("user1", "secret")
	}
	if first := login(); !first.OK() {
		t.Fatal(first)
	}

	// A file with mistakes changes nothing, and each of them is in the error.
	var wrong config.Errors
	write(t, path, strings.Replace(text, "shared", "sharde", 1)+"limits {\n  per_user = 1\n  per_ip = -1\n}\n")
	if err := a.Reload(t.Context()); !errors.As(err, &wrong) || len(wrong) != 2 {
		t.Errorf("a file with mistakes: %v", err)
	}
	if second := login(); !second.OK() {
		t.Errorf("after a reload that failed: %s", second)
	}
	if r := a.lastReload.Load(); r == nil || r.OK || !strings.HasSuffix(r.Error, "(and 1 mistake more)") {
		t.Errorf("in the status: %+v", r)
	}

	// So does a setting that can't be used.
	write(t, path, text+"limits {\n  per_user = 1\n}\ntelemetry {\n  log {\n    file = \"/proc/imapproxy.log\"\n  }\n}\n")
	if err := a.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), ": telemetry.log.file: ") {
		t.Errorf("a log that can't be made: %v", err)
	}
	if third := login(); !third.OK() {
		t.Errorf("after a reload that failed: %s", third)
	}

	write(t, path, text+"limits {\n  per_user = 1\n}\n")
	if err := a.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if r := a.lastReload.Load(); !r.OK {
		t.Errorf("in the status: %+v", r)
	}
	if more := login(); more.OK() {
		t.Error("limits.per_user doesn't hold")
	}
	end(t, a, running)
	if err := a.Reload(t.Context()); !errors.Is(err, ErrEnding) {
		t.Errorf("after the end: %v", err)
	}
}

func TestTwoAppsKnowNothingOfEachOther(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	server := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
	one, two := open(t, Options{File: file(t, settings(server.Addr))}), open(t, Options{File: file(t, settings(server.Addr))})
	first, second := task.Start(one.Run), task.Start(two.Run)
	<-one.Ready()
	<-two.Ready()
	stays := imaptest.Dial(t, two.Addrs()["plain"])
	stays.Login("user1", "secret")
	goes := imaptest.Dial(t, one.Addrs()["plain"])
	goes.Login("user1", "secret")
	end(t, one, first)
	goes.Expect(`/\* BYE .*/`)
	stays.MustOK("NOOP")
	imaptest.Dial(t, two.Addrs()["plain"]).Login("user2", "secret")
	end(t, two, second)
}

// states is a service manager that remembers what it was told.
type states chan string

func (s states) notify(state string) error { s <- state; return nil }

// expect takes what it was told next, which must begin so.
func (s states) expect(t testing.TB, want string) {
	t.Helper()
	select {
	case got := <-s:
		if !strings.HasPrefix(got, want) {
			t.Errorf("the service manager is told %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("the service manager isn't told %q", want)
	}
}

func TestTheServiceManagerHearsOfEachStep(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	server := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
	text := settings(server.Addr)
	path, manager := file(t, text), make(states, 10)
	a := open(t, Options{File: path, Notify: manager.notify})
	if len(manager) > 0 {
		t.Errorf("it hears %q before anything is served", <-manager)
	}
	running := task.Start(a.Run)
	manager.expect(t, "READY=1\nSTATUS=serving")
	_ = a.Reload(t.Context())
	manager.expect(t, "RELOADING=1\nMONOTONIC_USEC=")
	manager.expect(t, "READY=1\nSTATUS=serving, reloaded at ")
	write(t, path, "a mistake")
	_ = a.Reload(t.Context())
	manager.expect(t, "STATUS=serving with the old settings; the reload of ") // neither under way nor ready
	end(t, a, running)
	manager.expect(t, "STOPPING=1\nSTATUS=draining")
	if len(manager) > 0 {
		t.Errorf("it hears %q in the end", <-manager)
	}
}

// While sessions drain, no more clients are let in, and the admin API still says how it is.
func TestTheAdminAPIAnswersUntilTheSessionsHaveEnded(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	server := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
	tap := imaptest.NewTap(t, server.Addr)
	manager := make(states, 10)
	a := open(t, Options{File: file(t, strings.Replace(settings(tap.Addr), `"200ms"`, `"1h"`, 1)), Notify: manager.notify})
	running := task.Start(a.Run)
	manager.expect(t, "READY=1")
	<-a.Ready()
	client := imaptest.Dial(t, a.Addrs()["plain"])
	client.Login("user1", "secret")
	reached, release := make(chan struct{}), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	t.Cleanup(letGo)
	tap.Once("NOOP", func() {
		close(reached)
		<-release
	})
	client.Write("x1 NOOP")
	<-reached

	ended := make(chan error, 1)
	go func() { ended <- running.Stop() }() // ends with the session
	manager.expect(t, "STOPPING=1")
	for { // no event tells that the listener is closed
		c, err := net.Dial("tcp", a.Addrs()["plain"])
		if err != nil {
			break
		}
		_ = c.Close()
	}
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := (&http.Client{Transport: transport}).Get("http://" + a.AdminAddr() + "/healthz")
	if err != nil {
		t.Errorf("the admin API while a session ends: %v", err)
	} else {
		_ = answer.Body.Close()
	}
	select {
	case err := <-ended:
		t.Errorf("Run returned before the session's end: %v", err)
	default:
	}
	letGo()
	client.Expect(`/x1 OK .*/`)
	client.Expect(`/\* BYE .*/`)
	_ = client.Close()
	if err := errors.Join(<-ended, a.Close()); err != nil {
		t.Error(err)
	}
	isFree(t, "the admin API", a.AdminAddr())
}

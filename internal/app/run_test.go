package app

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// states is a service manager that records the states that it is told.
type states chan string

func (s states) notify(state string) error { s <- state; return nil }

// expect takes the next state, which must begin with a text.
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

// While sessions drain, no more clients are let in, and the admin API still answers.
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

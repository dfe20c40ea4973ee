package app

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/config"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// patience bounds every wait of these tests; a busy machine with the race detector needs long waits.
const patience = 30 * time.Second

// settings returns a configuration with one backend, on free ports.
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

package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/config"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
	"imapproxy/routing"
)

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

// logrotate moves the file away and asks for a reload, also while the configuration has mistakes.
func TestTheLogsFileIsOpenedAnewAtAReload(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	first, second, other := filepath.Join(dir, "imapproxy.log"), filepath.Join(dir, "another.log"), filepath.Join(dir, "standard.error")
	set := func(file string) string { return "telemetry {\n  log {\n    file = \"" + file + "\"\n  }\n}\n" }
	text := settings(imaptest.NewModelServer(t, imaptest.ModelServerOptions{}).Addr)
	path := file(t, text+set(first))
	stderr, err := os.Create(other)
	must(err)
	defer stderr.Close()
	a, err := Open(t.Context(), Options{File: path, Logs: stderr})
	must(err)
	running := task.Start(a.Run)
	<-a.Ready()
	says := func(log, want string) { // lines wait in a queue for their file, and no event tells of them
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			text, err := os.ReadFile(log)
			if err == nil && strings.Contains(string(text), want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s doesn't say %s (%v):\n%s", log, want, err, text)
			}
		}
	}
	reload := func(text string) error {
		t.Helper()
		write(t, path, text)
		return a.Reload(t.Context())
	}
	says(first, "backend joined")
	if info, err := os.Stat(first); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("others may read the log: %v %v", info.Mode(), err)
	}

	must(os.Rename(first, first+".1"))
	if reload("a mistake") == nil {
		t.Error("a mistake is taken")
	}
	says(first, "reload failed, the old settings stay")

	must(os.Rename(first, first+".2"))
	must(reload(text + set(second)))
	says(second, "msg=reloaded")

	if reload(text+set(filepath.Join(path, "x"))) == nil {
		t.Error("a log below a file is taken")
	}
	says(second, "reload failed")

	must(reload(text))
	says(other, "telemetry.log.file")
	end(t, a, running)
	says(other, "msg=stopped")
}

// Authorities are replaced in their file, and then the backends' certificates: after a reload the probes of
// backends use the new ones, as logins do.
func TestAReloadReadsTheBackendsAuthoritiesAgain(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	before, now := imaptest.NewCert(t), imaptest.NewCert(t)
	serve := imaptest.Dialogue{TLS: now.Server, Implicit: true}.Serve
	backend := imaptest.NewBackend(t, func(c *imaptest.BackendConn) error {
		_ = serve(c) // a client that trusts another authority ends the handshake
		return nil
	})
	authorities := filepath.Join(t.TempDir(), "ca.pem")
	write(t, authorities, string(before.CertPEM))
	a := open(t, Options{File: file(t, settings(backend.Addr)+"backend_defaults {\n  tls     = \"implicit\"\n  ca_file = \""+authorities+"\"\n}\n")})
	running := task.Start(a.Run)
	<-a.Ready()
	if b := a.router.Backends()[0]; b.State != routing.Down || !strings.Contains(b.Reason, "certificate") {
		t.Fatalf("%+v", b)
	}
	write(t, authorities, string(now.CertPEM))
	if err := a.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(patience); a.router.Backends()[0].State != routing.Up; time.Sleep(5 * time.Millisecond) { // no event tells of it
		if time.Now().After(deadline) {
			t.Fatalf("%+v", a.router.Backends()[0])
		}
	}
	if login := imaptest.Dial(t, a.Addrs()["plain"]).TryLogin("user1", "secret"); !login.OK() {
		t.Error(login)
	}

	// A file that can't be read makes the reload fail, and the error has its place.
	write(t, authorities, "no certificate")
	if err := a.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "backend_defaults.ca_file") {
		t.Error(err)
	}
	end(t, a, running)
}

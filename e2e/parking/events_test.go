package parking

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"imapproxy/e2e/servers"
)

const eventsToken = "0123456789abcdef0123"

// events is where a server posts its events, for all proxies before it.
type events struct {
	url string

	mu sync.Mutex // guards to
	to map[http.Handler]bool
}

// listenForEvents serves it until the test's end.
func listenForEvents(t testing.TB) *events {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	e := &events{url: "http://" + ln.Addr().String() + "/v1/events"}
	srv := &http.Server{Handler: e, ReadHeaderTimeout: patience}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }() // ends with Close below
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return e
}

// add has a proxy told as well, until the test's end.
func (e *events) add(t testing.TB, h http.Handler) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.to == nil {
		e.to = map[http.Handler]bool{}
	}
	e.to[h] = true
	t.Cleanup(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.to, h)
	})
}

func (e *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	to := slices.Collect(maps.Keys(e.to))
	e.mu.Unlock()
	answer := httptest.NewRecorder()
	for _, h := range to {
		answer = httptest.NewRecorder()
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(answer, r)
	}
	w.WriteHeader(answer.Code)
}

// dovecotWithEvents is a Dovecot with push.lua.
func dovecotWithEvents(t testing.TB) *site {
	t.Helper()
	e := listenForEvents(t)
	// An event that a busy machine is late to answer would be lost, until a sweep.
	push := patient(t, contrib(t, "dovecot/push.lua"), "timeout_msecs = 500", "timeout_msecs = 30000")
	return &site{Server: dovecotThatPosts(t, push, e.url, eventsToken), watch: "push", events: e}
}

// patient is a script with its timeout replaced.
func patient(t testing.TB, script, timeout, by string) string {
	t.Helper()
	if strings.Count(script, timeout) != 1 {
		t.Fatalf("no %q in the script", timeout)
	}
	return strings.Replace(script, timeout, by, 1)
}

func dovecotThatPosts(t testing.TB, push, url, secret string) *servers.Server {
	t.Helper()
	dir := servers.Folder(t)
	script, token := filepath.Join(dir, "push.lua"), filepath.Join(dir, "token")
	must(t, os.WriteFile(script, []byte(push), 0o644))
	must(t, os.WriteFile(token, []byte(secret+"\n"), 0o644))
	return servers.StartDovecot(t, servers.DovecotOptions{Name: "dovecot-push", Push: &servers.DovecotPush{Script: script, TokenFile: token, URLs: []string{url}}})
}

// cyrusWithEvents is a Cyrus with contrib's notify program.
func cyrusWithEvents(t testing.TB) *site {
	t.Helper()
	e := listenForEvents(t)
	program := filepath.Join(servers.Folder(t), "notify")
	notify := patient(t, contrib(t, "cyrus/notify"), "--connect-timeout 1 --max-time 2", "--max-time 30")
	must(t, os.WriteFile(program, []byte(notify), 0o755))
	must(t, os.Mkdir(program+".d", 0o755))
	settings := fmt.Sprintf("url = %q\nheader = %q\n", e.url, "Authorization: Bearer "+eventsToken)
	must(t, os.WriteFile(filepath.Join(program+".d", "proxy.conf"), []byte(settings), 0o644))
	server := servers.StartCyrusWith(t, servers.CyrusOptions{Notify: program, Users: cyrusUsers})
	return &site{Server: server, watch: "push", events: e, users: cyrusUsers}
}

func contrib(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "contrib", path))
	must(t, err)
	return string(b)
}

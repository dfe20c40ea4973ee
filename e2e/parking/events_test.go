package parking

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/apptest"
)

// events is where a server posts its events, for all proxies before it.
type events struct {
	url string

	mu sync.Mutex      // guards to
	to map[string]bool // URLs
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
func (e *events) add(t testing.TB, url string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.to == nil {
		e.to = map[string]bool{}
	}
	e.to[url] = true
	t.Cleanup(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.to, url)
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
	code := http.StatusOK
	for _, url := range to {
		if c, err := post(r.Context(), url, r.Header, body); err == nil { // else the proxy has ended just now
			code = c
		}
	}
	w.WriteHeader(code)
}

// post posts an event to a proxy and returns what it is answered.
func post(ctx context.Context, url string, header http.Header, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header = header.Clone()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// dovecotWithEvents is a Dovecot with push.lua.
func dovecotWithEvents(t testing.TB) *site {
	t.Helper()
	e := listenForEvents(t)
	// An event that a busy machine is late to answer would be lost, until a sweep.
	push := patient(t, contrib(t, "dovecot/push.lua"), "timeout_msecs = 500", "timeout_msecs = 30000")
	return &site{Server: dovecotThatPosts(t, push, e.url, apptest.EventsToken), watch: "push", events: e}
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
	settings := fmt.Sprintf("url = %q\nheader = %q\n", e.url, "Authorization: Bearer "+apptest.EventsToken)
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

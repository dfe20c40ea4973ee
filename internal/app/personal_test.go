package app

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// sent is an OTLP/HTTP endpoint that keeps the bytes of all requests, and a log.
type sent struct {
	mu  sync.Mutex
	all map[string]*bytes.Buffer // by path, or "log"
}

func (s *sent) at(where string) *bytes.Buffer {
	if s.all == nil {
		s.all = map[string]*bytes.Buffer{}
	}
	if s.all[where] == nil {
		s.all[where] = &bytes.Buffer{}
	}
	return s.all[where]
}

// Write implements io.Writer: the log.
func (s *sent) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at("log").Write(p)
}

func (s *sent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		plain, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = plain
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = io.Copy(s.at(r.URL.Path), body)
}

// A client logs in, fails to, sends commands that fail, and goes away: with personal = "none" neither its name nor its
// address are in logs, exported logs, traces and metrics, with "hashed" neither but their hashes, with "full" both.
func TestNoNameOrAddressIsWritten(t *testing.T) {
	const user, address = "zaphod.beeblebrox", "127.0.0.77"
	for _, mode := range []string{"full", "hashed", "none"} {
		t.Run(mode, func(t *testing.T) {
			imaptest.VerifyNoLeaks(t)
			endpoint := &sent{}
			server := httptest.NewServer(endpoint)
			defer server.Close()
			extra := ""
			if mode == "hashed" {
				key := filepath.Join(t.TempDir(), "key")
				write(t, key, "0123456789abcdef\n")
				extra = "\n  personal_key_file = \"" + key + "\""
			}
			backend := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
			users := filepath.Join(t.TempDir(), "users")
			write(t, users, user+":{PLAIN}secret\n")
			text := settings(backend.Addr) + `
auth "passwd_file" {
  path = "` + users + `"
}
telemetry {
  personal = "` + mode + `"` + extra + `
  log {
    level = "debug"
    endpoint = "` + server.URL + `"
  }
  traces {
    endpoint = "` + server.URL + `"
    sample   = "100%"
  }
  metrics {
    endpoint = "` + server.URL + `"
  }
}
`
			a, err := Open(t.Context(), Options{File: file(t, text), Logs: endpoint})
			if err != nil {
				t.Fatal(err)
			}
			running := task.Start(a.Run)
			<-a.Ready()
			dial := func() *imaptest.Client {
				return imaptest.DialWith(t, a.Addrs()["plain"], imaptest.DialOptions{Source: address})
			}
			c := dial()
			if c.TryLogin(user, "wrong").OK() {
				t.Fatal("a wrong password is accepted")
			}
			c.Login(user, "secret")
			c.Cmd("SELECT %q", "no such mailbox of "+user)
			c.Cmd("NONSENSE %s", user)
			c.MustOK("LOGOUT")
			c = dial()
			c.Login(user, "secret")
			c.MustOK("NOOP")
			_ = c.Conn.Close()
			metrics := scraped(t, a.AdminAddr())
			end(t, a, running)

			endpoint.mu.Lock()
			defer endpoint.mu.Unlock()
			for where, want := range map[string]bool{"log": mode == "full", "/v1/logs": mode == "full", "/v1/traces": mode == "full", "/v1/metrics": false} {
				text := endpoint.at(where).String()
				if len(text) < 500 {
					t.Errorf("%s has only %d bytes", where, len(text))
				}
				for _, name := range []string{user, address} {
					if i := strings.Index(text, name); i >= 0 != want {
						t.Errorf("%s: %s contained: %v, want %v: …%q…", where, name, i >= 0, want, text[max(0, i-200):min(len(text), max(0, i)+200)])
					}
				}
				if hashed := strings.Contains(text, "h-"); where != "/v1/metrics" && hashed != (mode == "hashed") {
					t.Errorf("%s: hashes contained: %v", where, hashed)
				}
			}
			if strings.Contains(metrics, user) || strings.Contains(metrics, address) {
				t.Error("the metrics have names or addresses")
			}
		})
	}
}

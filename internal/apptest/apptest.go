// Package apptest starts a proxy in a test's own process as an operator starts one: from a configuration, by
// internal/app. The end-to-end tests of parking use it; those that look at the process (signals, exit codes,
// other verbs) run the command instead.
//
// Imports internal/app, internal/imaptest and internal/task. Imported by the
// end-to-end tests.
package apptest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"imapproxy/internal/app"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// EventsToken is the token of push events, if a Config has them.
const EventsToken = "0123456789abcdef0123"

// Park are settings of the block park, as texts or durations, by name.
type Park map[string]any

// A Config is a proxy before one backend, with a listener "plain" in clear and one "imaps"
// under TLS. Addresses are on loopback, ports are free ones.
type Config struct {
	Backend string // its address
	// Discovery is a block of its own in place of the backend's, as a file has it; "": the backend's.
	Discovery string
	Cert      imaptest.Cert // of imaps
	Park      Park          // the settings of the block park
	Events    bool          // push events are taken, on the admin address
	Compress  bool          // COMPRESS is offered
	Drain     time.Duration // 0: 100 ms
	Storage   string        // of routing; "": shared
	Auth      string        // blocks auth, as a file has them, in place of auth "backend"
	Limits    string        // further lines of limits
	More      string        // further blocks, as a file has them
}

// The first probe finds the backend up; there is no other, since tests count what comes there.
var text = template.Must(template.New("config.hcl").Parse(`
hostname = "proxy.test"
listener "plain" {
  address        = "127.0.0.1:0"
  tls            = "none"
  cleartext_from = ["127.0.0.0/8"]
  compress       = {{.Compress}}
}
listener "imaps" {
  address = "127.0.0.1:0"
  tls     = "implicit"
  compress = {{.Compress}}
  certificate {
    cert_file = "cert.pem"
    key_file  = "key.pem"
  }
}
{{if .Auth}}{{.Auth}}{{else}}auth "backend" {}{{end}}
{{if .Discovery}}
{{.Discovery}}
{{else}}
discovery "static" {
  backend "b1" {
    address = "{{.Backend}}"
  }
  probe {
    interval = "1h"
    timeout  = "1m"
  }
}
{{end}}
routing {
  storage = "{{if .Storage}}{{.Storage}}{{else}}shared{{end}}"
}
limits {
  auth_failure_delay = "0s"
  {{.Limits}}
}
park {
{{range $name, $value := .Park}}
  {{$name}} = "{{$value}}"
{{end}}
{{if .Events}}
  events {
    token_file = "events.token"
  }
{{end}}
}
telemetry {
  log {
    level = "debug"
  }
}
admin {
  address = "127.0.0.1:0"
}
shutdown {
  drain = "{{.Drain}}"
}
{{.More}}
`))

// write writes the configuration and the files that it names into a folder.
func (c Config) write(dir string) (file string, err error) {
	if c.Drain == 0 {
		c.Drain = 100 * time.Millisecond
	}
	var b strings.Builder
	if err := text.Execute(&b, c); err != nil {
		return "", err
	}
	for name, content := range map[string]string{
		"config.hcl": b.String(), "cert.pem": string(c.Cert.CertPEM), "key.pem": string(c.Cert.KeyPEM), "events.token": EventsToken + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "config.hcl"), nil
}

// Start runs a proxy until the test's end, and returns when a login finds its backend. o.File
// is written here; without o.Logs a test that has failed shows the log's end.
func Start(t testing.TB, c Config, o app.Options) *app.App {
	t.Helper()
	var err error
	if o.File, err = c.write(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if o.Logs == nil {
		l := &Log{}
		o.Logs = l
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("the proxy's log:\n%s", l.Tail(60))
			}
		})
	}
	a, err := app.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	running := task.Start(a.Run)
	t.Cleanup(func() {
		if err := errors.Join(running.Stop(), a.Close()); err != nil {
			t.Errorf("the proxy's end: %v", err)
		}
	})
	select {
	case <-a.Ready():
	case <-running.Done():
		t.Fatal("the proxy doesn't serve")
	}
	return a
}

// A Log keeps a log; it is an app.Options.Logs.
type Log struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// Tail returns the last n lines.
func (l *Log) Tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(l.text.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Has says whether the log contains a text.
func (l *Log) Has(words string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), words)
}

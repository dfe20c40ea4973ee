package parking

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// Each transcript is run on the server directly, which shows that it says what
// servers do, and through the proxy. A connection whose name begins with D goes
// to the server in both runs. A name with "quiet" is for those that are to be parked
// outside IDLE, one with "tls" for those whose client has TLS.
func aClientCantTellThatItIsParked(t *testing.T, s *site) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	l := newLab(t, s, labOptions{})
	quiet := newLab(t, s, labOptions{quietAfter: 10 * time.Millisecond})
	for _, path := range paths {
		script, err := imaptest.LoadScript(path)
		must(t, err)
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		// mox shares no mailboxes, tells of no new keyword, and tells a connection of messages of
		// before its SELECT as if they were new, at which it closes it. With no proxy, too.
		if s.Kind == "mox" && name != "done-and-fetch-tls" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel() // mostly waiting
			lab := l
			if strings.Contains(name, "quiet") {
				lab = quiet
			}
			o := lab.runOptions(s.newUser(t), s.newUser(t))
			if _, err := script.Run(t.Context(), o); err != nil {
				t.Fatalf("directly: %v", err)
			}
			o = lab.throughProxy(lab.runOptions(s.newUser(t), s.newUser(t)), strings.Contains(name, "tls"))
			if _, err := script.Run(t.Context(), o); err != nil {
				t.Fatalf("parked: %v", err)
			}
		})
	}
}

// runOptions are those of a run on the server, where "wait parked" waits for nothing.
func (l *lab) runOptions(user, user2 string) imaptest.RunOptions {
	nothing := func(context.Context, ...string) error { return nil }
	return imaptest.RunOptions{
		Vars:       map[string]string{"user": user, "user2": user2, "password": servers.Password, "others": l.server.OtherUsers},
		Conditions: map[string]bool{l.server.Kind: true},
		Timeout:    patience,
		Connect: func(ctx context.Context, name string) (*imaptest.Conn, error) {
			return imaptest.DialConn(ctx, l.server.Addr, imaptest.DialOptions{Timeout: patience})
		},
		Hooks: map[string]func(context.Context, ...string) error{"parked": nothing},
	}
}

// throughProxy makes them those of a run through the proxy.
func (l *lab) throughProxy(o imaptest.RunOptions, tls bool) imaptest.RunOptions {
	conns := map[string]*imaptest.Conn{}
	direct := o.Connect
	o.Conditions["proxy"] = true
	o.Connect = func(ctx context.Context, name string) (*imaptest.Conn, error) {
		if strings.HasPrefix(name, "D") {
			return direct(ctx, name)
		}
		addr, dial := l.Plain, imaptest.DialOptions{Timeout: patience}
		if tls {
			addr, dial.TLS = l.TLS, l.cert.Client
		}
		c, err := imaptest.DialConn(ctx, addr, dial)
		conns[name] = c
		return c, err
	}
	o.Hooks["parked"] = func(ctx context.Context, names ...string) error {
		for _, name := range names {
			if err := l.attachment(ctx, conns[name], "parked"); err != nil {
				return err
			}
		}
		return nil
	}
	return o
}

//go:build parking

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
// to the server in both runs. "quiet" in a transcript's name is for those that
// are to be parked outside IDLE.
func TestAClientCantTellThatItIsParked(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	onEach(t, "", labOptions{}, func(t *testing.T, l *lab) {
		quiet := newLab(t, l.server, labOptions{watch: "idle", quietAfter: 10 * time.Millisecond})
		for _, path := range paths {
			script, err := imaptest.LoadScript(path)
			must(t, err)
			name := strings.TrimSuffix(filepath.Base(path), ".txtar")
			lab := l
			if strings.Contains(name, "quiet") {
				if !strings.HasSuffix(t.Name(), "-idle") {
					continue
				}
				lab = quiet
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel() // mostly waiting
				o := lab.runOptions(newUser(), newUser(), false)
				if _, err := script.Run(t.Context(), o); err != nil {
					t.Fatalf("directly: %v", err)
				}
				o = lab.runOptions(newUser(), newUser(), true)
				if _, err := script.Run(t.Context(), o); err != nil {
					t.Fatalf("parked: %v", err)
				}
			})
		}
	})
}

// runOptions are those of a run on the server, or through the proxy.
func (l *lab) runOptions(user, user2 string, through bool) imaptest.RunOptions {
	conns := map[string]*imaptest.Conn{}
	o := imaptest.RunOptions{
		Vars:       map[string]string{"user": user, "user2": user2, "password": servers.Password, "others": l.server.OtherUsers},
		Conditions: map[string]bool{l.server.Kind: true, "proxy": through},
		Timeout:    patience,
		Connect: func(ctx context.Context, name string) (*imaptest.Conn, error) {
			addr := l.server.Addr
			if through && !strings.HasPrefix(name, "D") {
				addr = l.Plain
			}
			c, err := imaptest.DialConn(ctx, addr, imaptest.DialOptions{Timeout: patience})
			conns[name] = c
			return c, err
		},
	}
	wait := func(want string) func(context.Context, ...string) error {
		return func(ctx context.Context, args ...string) error {
			if !through {
				return nil
			}
			for _, name := range args {
				if err := l.attachment(ctx, conns[name], want); err != nil {
					return err
				}
			}
			return nil
		}
	}
	o.Hooks = map[string]func(context.Context, ...string) error{"parked": wait("parked"), "attached": wait("attached")}
	return o
}

package idlers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// The test takes a third of the times in docs/failures.md: mbsync is set to give up after 7 s in place of 20, and the proxy's
// clock, by which a client that waits is told "Still here", runs three times as fast.
const (
	faster    = 3
	givesUp   = 7 * time.Second
	standsFor = givesUp + time.Second
)

// mbsync syncs while all processes of its server are stopped for longer than it waits for an answer. The proxy tells it
// "Still here", so it waits on, and both sides are the same at its end.
func TestMbsyncWaitsForAStoppedServer(t *testing.T) {
	servers.Real(t)
	t.Parallel()
	for _, v := range []struct{ name, at string }{
		{"select", "SELECT"},
		{"fetch", "(BODY.PEEK[])"},
		{"append", "APPEND"},
		{"delete", "STORE"},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			server := servers.StartDovecot(t, servers.DovecotOptions{})
			tap := imaptest.NewTap(t, server.Addr)
			began := time.Now()
			l := newLab(t, server, labOptions{
				watch: "idle", backend: tap.Addr, linger: 20 * time.Minute,
				now: func() time.Time { return began.Add(faster * time.Since(began)) },
			})
			a := newAccount(t, l, servers.User(1))
			a.seed("seed", "")
			sync := mbsyncOf(a, fmt.Sprintf("Timeout %d\n", givesUp/time.Second))
			dir := filepath.Join(a.home, "mail", "INBOX")
			must(t, sync())
			a.copied(nil, dir)

			// A deletion and a message on each side.
			victim := a.any("")
			must(t, os.Remove(a.copyOf(dir, victim)))
			a.gone(victim)
			a.expunge(a.any(""))
			a.deliver(mail{"far", ""})
			const near = "near-0001"
			must(t, os.WriteFile(filepath.Join(dir, "new", "1000000000.M1P1.idlers"), []byte(strings.ReplaceAll(message(near), "\r\n", "\n")), 0o600))
			a.have = append(a.have, near)

			stopped := tap.Once(v.at, server.Process.Freeze)
			syncing := task.Start(func(context.Context) error { return sync() })
			select {
			case <-stopped:
			case <-syncing.Done():
				t.Fatalf("mbsync never said %s: %v", v.at, syncing.Stop())
			}
			select {
			case <-syncing.Done():
				t.Errorf("mbsync has ended while its server stood")
			case <-time.After(standsFor): // so long the server stands
			}
			server.Process.Thaw()
			must(t, syncing.Stop())
			a.copied(nil, dir)
			a.settles("mbsync deleted " + victim)
			l.nobodySentAway(t)
		})
	}
}

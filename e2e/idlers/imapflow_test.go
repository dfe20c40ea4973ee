//go:build thunderbird

package idlers

import (
	"os"
	"path/filepath"
	"testing"

	"imapproxy/e2e/servers"
)

// imapflow, with which webmail and scripts on Node.js read mail: it compresses wherever it may, and filters by UIDs. `make clients` runs it, since npm is too big for ./test.
func TestImapFlow(t *testing.T) {
	servers.Real(t)
	l := newLab(t, servers.StartDovecot(t, servers.DovecotOptions{}), labOptions{watch: "idle", compress: true})
	l.restart = newRestart()
	l.restart.joins()
	t.Run("imapflow", func(t *testing.T) {
		a := newAccount(t, l, servers.User(1))
		for _, name := range []string{"package.json", "package-lock.json", "filter.js"} {
			text, err := os.ReadFile(filepath.Join("testdata", "imapflow", name))
			must(t, err)
			a.file(name, string(text))
		}
		if out, err := a.command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund").CombinedOutput(); err != nil {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
		a.filters("node", filepath.Join(a.home, "filter.js"), a.port(), a.user, servers.Password, a.l.CertFile)
	})
	if n := l.tally(servers.User(1)); n.compressed == 0 {
		t.Errorf("none of its %d sessions were compressed", n.sessions)
	}
	l.nobodySentAway(t)
}

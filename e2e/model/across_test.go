package model

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/app"
	"imapproxy/internal/apptest"
	"imapproxy/internal/imaptest"
)

// acrossPrefix is the namespace in which the proxy shows mailboxes of users of the other server.
const acrossPrefix = "others/"

const acrossPassword = "pw-Across.1"

// apartDovecots are two that share no mail, at which each user may be a master user with their own rights.
func apartDovecots(t testing.TB, l *lab) (first, second *servers.Server) {
	l.has = modernTraits()
	extra := `
passdb {
  driver = static
  args = password=` + acrossPassword + `
  master = yes
  result_success = continue
  override_fields = userdb_acl_user=%u
}
`
	if servers.DovecotRelease(t) == "2.4" {
		extra = `
passdb across {
  driver = static
  passdb_static_password = ` + acrossPassword + `
  master = yes
  result_success = continue
  fields {
    userdb_acl_user = %{user}
  }
}
`
	}
	return servers.StartDovecot(t, servers.DovecotOptions{Store: "sdbox", Name: "dovecot-1", Extra: extra}),
		servers.StartDovecot(t, servers.DovecotOptions{Store: "sdbox", Name: "dovecot-2", Extra: extra})
}

// number is n of server.User(n).
func number(user string) (n int) {
	_, _ = fmt.Sscanf(user, "user%03d", &n)
	return n
}

// addrOf is the address of the server that has a user's mail.
func (l *lab) addrOf(user string) string {
	if l.across != nil && number(user)%2 == 0 {
		return l.second.Addr
	}
	return l.server.Addr
}

// startAcross runs a proxy in this process before the two servers. It ends with the test.
func (l *lab) startAcross() {
	dir := l.t.TempDir()
	var users strings.Builder
	for n := 1; n <= servers.Users; n++ {
		fmt.Fprintf(&users, "%s:{PLAIN}%s::::::backend=b%d\n", l.server.User(n), servers.Password, 2-n%2)
	}
	must(l.t, os.WriteFile(filepath.Join(dir, "users"), []byte(users.String()), 0o600))
	must(l.t, os.WriteFile(filepath.Join(dir, "password"), []byte(acrossPassword+"\n"), 0o600))
	l.app = apptest.Start(l.t, apptest.Config{
		Discovery: fmt.Sprintf(`discovery "static" {
  backend "b1" { address = %q }
  backend "b2" { address = %q }
  probe {
    interval = "1h"
    timeout  = "1m"
  }
}`, l.server.Addr, l.second.Addr),
		Storage: "separate", Auth: fmt.Sprintf("auth \"passwd_file\" {\n  path = %q\n}\n", filepath.Join(dir, "users")),
		Cert: imaptest.NewCert(l.t), Drain: time.Second,
		Park: apptest.Park{
			"watch": l.watch, "linger": time.Millisecond, "quiet_after": 3 * time.Millisecond, "warm_for": 5 * time.Second, "auth_cache_for": time.Duration(0),
		},
		More: fmt.Sprintf("shared {\n  namespace = %q\n  owner_login = \"master\"\n  password_file = %q\n}\n", acrossPrefix, filepath.Join(dir, "password")),
	}, app.Options{Logs: l.log, Park: app.ParkOptions{SweepEvery: l.sweep, PollEvery: l.sweep, Plant: l.found}})
	l.proxy, l.addr = l.app.Server(), l.app.Addrs()["plain"]
}

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// The users of a domain are on its backend, unless a source of credentials places them elsewhere. A reload moves a domain.
func TestDomainsAreOnTheirBackends(t *testing.T) {
	t.Parallel()
	mail := servers.DovecotMail(t)
	var at []backend
	for _, id := range []string{"b1", "b2", "b3"} {
		_, lmtp := servers.FreeAddr(t) // with it the server takes names with a domain
		at = append(at, backend{id, servers.StartDovecot(t, servers.DovecotOptions{Name: id, Mail: mail, LMTPPort: lmtp}).Addr})
	}
	passwd := filepath.Join(servers.Folder(t), "users")
	writeFile(t, passwd, servers.User(3)+"@one.test:{PLAIN}"+servers.Password+"::::::backend=b3\n")
	for _, storage := range []string{"shared", "separate"} {
		t.Run(storage, func(t *testing.T) {
			token := filepath.Join(servers.Folder(t), "admin.token")
			writeFile(t, token, "of-the-admin\n")
			p := startProxy(t, proxyOptions{Backends: at, Storage: storage, AdminToken: token, PasswdFile: passwd, Further: `
domain "one.test" {
  placement = "b2"
}
domain "Two.TEST" {
  placement = "b1"
}
`})
			goes := func(user, want string) {
				t.Helper()
				c := imaptest.Dial(t, p.Plain)
				if a := c.TryLogin(user, servers.Password); want == "" {
					if a.Tagged.Code() != "UNAVAILABLE" {
						t.Errorf("%s has no placement: %s", user, a.Tagged)
					}
					return
				} else if !a.OK() {
					t.Fatalf("%s: %s", user, a.Tagged)
				}
				c.MustOK("LOGOUT")
				if line := "user=" + strings.ToLower(user) + " backend=" + want + " "; !strings.Contains(p.Output(), line) {
					t.Errorf("the log has no %q:\n%s", line, p.Output())
				}
				if r := p.route(t, strings.ToLower(user)); r.Backend != want {
					t.Errorf("the route of %s is %q, want %q", user, r.Backend, want)
				}
			}
			for _, i := range []int{1, 2, 4, 5} { // more than chance would send there
				goes(servers.User(i)+"@one.test", "b2")
				goes(servers.User(i)+"@TWO.test", "b1")
			}
			goes(servers.User(3)+"@one.test", "b3")
			if storage == "separate" {
				goes(servers.User(1)+"@mail.one.test", "")
			}
			text, err := os.ReadFile(p.Config)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, p.Config, strings.Replace(string(text), `placement = "b2"`, `placement = "b3"`, 1))
			p.signal(t, syscall.SIGHUP)
			p.eventually(t, "the reload", func() error {
				if !strings.Contains(p.Output(), "msg=reloaded") {
					return errors.New("not yet")
				}
				return nil
			})
			goes(servers.User(1)+"@one.test", "b3")
			writeFile(t, p.Config, strings.Replace(string(text), `placement = "b2"`, `placement = "b9"`, 1))
			if out, _ := p.check(); !strings.Contains(out, `one.test is placed on "b9", which isn't among the backends`) {
				t.Errorf("imapproxy check:\n%s", out)
			}
		})
	}
}

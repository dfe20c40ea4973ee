package idlers

import (
	"testing"

	"imapproxy/e2e/servers"
)

// Programs that idle, each with a mailbox of its own, all at once through one proxy
// that parks them at every pause. Their server is restarted once meanwhile.
func TestIdlers(t *testing.T) {
	servers.Real(t)
	for _, v := range []struct {
		name, watch string
		start       func(t *testing.T) *servers.Server
	}{
		{"dovecot-idle", "idle", func(t *testing.T) *servers.Server { return servers.StartDovecot(t, servers.DovecotOptions{}) }},
		{"maildir-notify", "notify", func(t *testing.T) *servers.Server {
			return servers.StartDovecot(t, servers.DovecotOptions{Store: "maildir"})
		}},
		{"cyrus-idle", "idle", func(t *testing.T) *servers.Server { return servers.StartCyrus(t) }},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, v.start(t), labOptions{watch: v.watch})
			t.Run("clients", func(t *testing.T) {
				programs := programs()
				l.restart = restartFor(len(programs))
				for i, c := range programs {
					t.Run(c.name, func(t *testing.T) {
						t.Parallel()
						c.run(newAccount(t, l, servers.User(i+1)))
					})
				}
			})
			l.nobodySentAway(t)
		})
	}
}

type program struct {
	name string
	run  func(a *account)
}

func programs() []program {
	return []program{
		{"go-imap", goIMAP},
		{"fetchmail", fetchmail},
		{"getmail", getmail},
		{"imapfilter", imapfilter},
		{"offlineimap", offlineimap},
		{"mbsync", mbsync},
		{"mutt", func(a *account) { mutt(a, "mutt", true) }},
		{"neomutt", func(a *account) { mutt(a, "neomutt", false) }},
	}
}

package idlers

import (
	"testing"

	"imapproxy/e2e/servers"
)

// Programs that idle, each with a mailbox of its own, all at once through one proxy
// that parks them at every pause. Their server is restarted once meanwhile. Thunderbird has tests of its own.
func TestIdlers(t *testing.T) {
	servers.Real(t)
	for _, v := range []struct {
		name, watch string
		compress    bool
		start       func(t *testing.T) *servers.Server
	}{
		{"dovecot-idle", "idle", false, func(t *testing.T) *servers.Server { return servers.StartDovecot(t, servers.DovecotOptions{}) }},
		{"maildir-notify-compressed", "notify", true, func(t *testing.T) *servers.Server {
			return servers.StartDovecot(t, servers.DovecotOptions{Store: "maildir"})
		}},
		{"cyrus-idle", "idle", false, func(t *testing.T) *servers.Server { return servers.StartCyrus(t) }},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, v.start(t), labOptions{watch: v.watch, compress: v.compress})
			t.Run("clients", func(t *testing.T) {
				l.restart = newRestart()
				for i, c := range programs() {
					t.Run(c.name, func(t *testing.T) {
						l.restart.joins()
						t.Parallel()
						c.run(newAccount(t, l, servers.User(i+1)))
						if n := l.tally(servers.User(i + 1)).compressed; c.compresses && v.compress && n == 0 || !v.compress && n > 0 {
							t.Errorf("%d of its sessions were compressed", n)
						}
					})
				}
			})
			l.nobodySentAway(t)
		})
	}
}

type program struct {
	name       string
	compresses bool // where COMPRESS is offered, for certain
	run        func(a *account)
}

func programs() []program {
	return []program{
		{"go-imap", false, goIMAP},
		{"fetchmail", false, fetchmail},
		{"getmail", false, getmail},
		{"imapfilter", false, imapfilter},
		{"imap_tools", false, imapTools},
		{"Mail::IMAPClient", false, mailIMAPClient},
		{"Mail::IMAPTalk", false, mailIMAPTalk},
		{"imaplib2", false, imaplib2},
		{"Net::IMAP", false, netIMAP},
		{"offlineimap", true, offlineimap},
		{"mbsync", true, mbsync},
		{"mutt", true, func(a *account) { mutt(a, "mutt", true) }},
		{"neomutt", deflates("neomutt"), func(a *account) { mutt(a, "neomutt", false) }},
	}
}

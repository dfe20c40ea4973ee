package parking

import (
	"slices"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// The server has forgotten what was expunged when, and says more to be gone than
// the client ever had: it is told what it counts, and no more.
func aPurgedHistory(t *testing.T, s *site) {
	kind := s.Kind
	s = &site{watch: "push", events: &events{}}
	var purge func(d *imaptest.ModelWriter)
	if kind == "dovecot" {
		// The log that knows is rotated soon, and the old one not kept.
		s.Server = servers.StartDovecot(t, servers.DovecotOptions{Extra: `
mail_index_log_rotate_max_size = 1000
mail_index_log_rotate_min_age = 0
mail_index_log2_max_age = 0
`})
		purge = func(d *imaptest.ModelWriter) {
			for range 40 {
				d.MustOK("UID STORE 1 +FLAGS.SILENT (again)")
				d.MustOK("UID STORE 1 -FLAGS.SILENT (again)")
			}
			d.MustOK("UNSELECT")
			d.MustOK("SELECT %s", d.Mailbox)
		}
	} else {
		s.Server, s.users = servers.StartCyrusWith(t, servers.CyrusOptions{Users: cyrusUsers}), cyrusUsers
		purge = func(*imaptest.ModelWriter) { s.Expire(t) }
	}
	for _, when := range []string{"in IDLE", "at a command"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, labOptions{warmFor: -1})
			user := l.newUser()
			d := l.writer(user, "INBOX", 10)
			d.Expunge(2, 3)
			w := l.watch(user, "INBOX", d.Truth)
			w.BeginIdle()
			l.parked(w.Client)
			probe := l.direct(user)
			probe.MustOK("ENABLE QRESYNC")
			a := probe.MustOK("SELECT INBOX")
			var validity, modSeq string
			for _, r := range a.Untagged {
				if v, ok := strings.CutPrefix(r.Code(), "UIDVALIDITY "); ok {
					validity = v
				}
				if v, ok := strings.CutPrefix(r.Code(), "HIGHESTMODSEQ "); ok {
					modSeq = v
				}
			}
			d.Expunge(5)
			d.Append(1)
			purge(d)
			a = probe.MustOK("SELECT INBOX (QRESYNC (%s %s 1:10))", validity, modSeq)
			if r, _ := a.Find("VANISHED"); !strings.Contains(r.Text, "2:3,5") {
				t.Fatalf("its history isn't purged: %v", a.Untagged)
			}
			if when == "in IDLE" {
				other := l.login(user) // whose own command is a hint
				other.MustOK("CREATE Hint")
				w.Told("EXPUNGE", 1)
			}
			w.EndIdle()
			w.Agrees(d.Truth)
			if w.Heard["EXPUNGE"] != 1 {
				t.Errorf("told %d EXPUNGE", w.Heard["EXPUNGE"])
			}
			if uids, _ := imaptest.ModelSet("1,4,6:11"); !slices.Equal(uids, d.Truth.UIDs()) {
				t.Errorf("there are %v", d.Truth.UIDs())
			}
		})
	}
}

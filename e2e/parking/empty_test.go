package parking

import (
	"strings"
	"testing"
)

// A client that counts no messages marks none by "*", whatever has come since: it may have asked for
// all of the mailbox to be deleted, and hasn't seen these.
func theLastOfAnEmptyMailboxIsNone(t *testing.T, s *site) {
	for name, commands := range map[string]string{
		"by UID":     "x UID STORE 1:* +FLAGS.SILENT (\\Deleted)\r\n",
		"by number":  "x STORE 1:* +FLAGS (\\Deleted)\r\n",
		"in one":     "x UID STORE 1:* +FLAGS (\\Deleted)\r\nx UID STORE * +FLAGS (\\Deleted)\r\n",
		"by MOVE":    "x UID MOVE 1:* Elsewhere\r\n",
		"by EXPUNGE": "x UID EXPUNGE 1:*\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, labOptions{})
			user := l.newUser()
			d := l.writer(user, "INBOX", 0)
			d.MustOK("CREATE Elsewhere")
			w := l.watch(user, "INBOX", d.Truth)
			w.BeginIdle()
			l.parked(w.Client)
			w.EndIdle()
			d.Append(2)
			if name == "by EXPUNGE" {
				d.MustOK(`UID STORE 1:* +FLAGS (\Deleted)`)
			}
			must(t, w.SendRaw(commands+"n NOOP\r\n"))
			for r := w.Read(); r.Tag() != "n"; r = w.Read() { // some call a number BAD that isn't there
			}
			d.MustOK("NOOP")
			left := map[string]bool{}
			marked := 0
			for _, r := range d.MustOK("UID FETCH 1:* (FLAGS)").Untagged {
				if r.Word(2) == "FETCH" {
					left[r.Word(1)] = true
				}
				if strings.Contains(r.Text, `\Deleted`) && name != "by EXPUNGE" {
					marked++
				}
			}
			if len(left) != 2 || marked != 0 {
				t.Errorf("%d messages are left, of which some are marked: %d", len(left), marked)
			}
		})
	}
}

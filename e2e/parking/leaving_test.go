package parking

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// A parked client that leaves its mailbox hears nothing more of it: what it is told of numbers
// before [CLOSED] is of the old mailbox, behind it of the new, and clients that don't
// know of CLOSED take all of it for the new.
func leavingAMailbox(t *testing.T, s *site) {
	commands := []struct {
		line, status string
		count        string // EXISTS of what is selected afterwards; "": nothing is
	}{
		{"SELECT Other", "OK", "2"},
		{"EXAMINE Other", "OK", "2"},
		{"SELECT INBOX", "OK", "7"},
		{"SELECT Nowhere", "NO", ""},
		{"UNSELECT", "OK", ""},
		{"CLOSE", "OK", ""},
	}
	for _, c := range commands {
		for _, heard := range []bool{false, true} {
			if heard && c.line != "SELECT Other" && c.line != "CLOSE" {
				continue // each watches the mailbox, of which a machine can do only so many
			}
			t.Run(fmt.Sprintf("%s heard %v", c.line, heard), func(t *testing.T) {
				t.Parallel()
				l := newLab(t, s, labOptions{quietAfter: time.Nanosecond})
				user := l.newUser()
				other := l.writer(user, "Other", 2)
				other.MustOK("LOGOUT")
				d := l.writer(user, "INBOX", 6)
				w := l.watch(user, "INBOX", d.Truth)
				w.Say("UID FETCH 1:* (FLAGS)")
				w.BeginIdle()
				l.parked(w.Client)
				w.EndIdle()
				if heard { // as another client of the mailbox shows, which is told of the same state
					v := l.watch(user, "INBOX", d.Truth)
					v.BeginIdle()
					l.parked(v.Client)
					d.Expunge(1)
					v.Told("EXPUNGE", 1)
					d.Append(2)
					v.Counts(7)
				} else {
					d.Expunge(1)
					d.Append(2)
				}
				d.MustOK(`UID STORE 4 +FLAGS (\Deleted)`)
				w.Write("x1 " + c.line)
				var told []imaptest.Response
				tagged := w.Read()
				for ; tagged.Tag() != "x1"; tagged = w.Read() {
					told = append(told, tagged)
				}
				if tagged.Status() != c.status {
					t.Fatalf("%s: %s", c.line, tagged)
				}
				selects := strings.HasPrefix(c.line, "SELECT") || strings.HasPrefix(c.line, "EXAMINE")
				closed, count := false, ""
				for _, r := range told {
					switch {
					case r.Code() == "CLOSED":
						closed = true
					case r.Word(2) == "EXPUNGE", r.Word(1) == "VANISHED", r.Word(2) == "FETCH":
						t.Errorf("told of the mailbox that is left: %s", r)
					case r.Word(2) == "EXISTS" && !closed:
						t.Errorf("told of the mailbox that is left: %s", r)
					case r.Word(2) == "EXISTS":
						count = r.Word(1)
					}
				}
				if closed != selects {
					t.Errorf("CLOSED: %v, of %v", closed, told)
				}
				if count != c.count {
					t.Errorf("%q messages, not %q", count, c.count)
				}
				if c.count == "" {
					if a := w.Cmd("UID SEARCH ALL"); a.OK() {
						t.Errorf("a mailbox is still selected: %v", a.Untagged)
					}
				}
				d.MustOK("NOOP")
				if a := d.MustOK("UID SEARCH UID 4 DELETED"); c.line == "CLOSE" && strings.Contains(fmt.Sprint(a.Untagged), "4") {
					t.Errorf("CLOSE has expunged nothing: %v", a.Untagged)
				}
				w.MustOK("LOGOUT")
			})
		}
	}
}

package parking

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy"
)

// A client that has a NOTIFY, a $ or more of its own stays attached, and
// 'imapproxy sessions' says why.
func whatOnlyTheBackendKnowsKeepsASessionAttached(t *testing.T, s *site) {
	both := map[string][]string{
		"message_numbers": {"SELECT INBOX", "FETCH 1:* (UID)"},
		"condstore":       {"SELECT INBOX (CONDSTORE)"},
	}
	cyrus := map[string][]string{"unknown_command": {"XSTATS"}}
	dovecot := map[string][]string{
		"notify":       {"SELECT INBOX", "NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge FlagChange))"},
		"saved_search": {"SELECT INBOX", "UID SEARCH RETURN (SAVE) ALL"},
	}
	stays := func(want string, commands []string) {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, labOptions{quietAfter: time.Millisecond})
			user := l.newUser()
			l.writer(user, "INBOX", 2)
			c := l.login(user)
			for _, line := range commands {
				c.MustOK("%s", line)
			}
			must(t, eventually(t.Context(), "the reason", func() error {
				l.srv.Sweep()
				page, _ := l.srv.Sessions(proxy.Filter{User: user})
				if len(page) != 1 || page[0].Attachment != "attached" || page[0].NotParked != want {
					return fmt.Errorf("%+v", page)
				}
				return nil
			}))
		})
	}
	for want, commands := range both {
		stays(want, commands)
	}
	for want, commands := range map[string]map[string][]string{"dovecot": dovecot, "cyrus": cyrus}[s.Kind] {
		stays(want, commands)
	}
}

// What the backend has called BAD, a search in another alphabet and a mailbox that is named by a literal
// don't keep a session attached. It is told of changes, and counts as the backend does.
func whatDoesntKeepASessionAttached(t *testing.T, s *site) {
	for name, c := range map[string]struct {
		mailbox string
		lines   []string
	}{
		"an unknown command": {"INBOX", []string{"SELECT INBOX", "COMPARATOR"}},
		"NOTIFY":             {"INBOX", []string{"SELECT INBOX", "NOTIFY SET ("}},
		"SAVE":               {"INBOX", []string{"SELECT INBOX", "UID SEARCH RETURN (SAVE) FOO"}},
		"MODSEQ":             {"INBOX", []string{"SELECT INBOX", "UID SEARCH MODSEQ x", "UID FETCH 1 (FLAGS) (CHANGEDSINCE x)"}},
		"by number":          {"INBOX", []string{"SELECT INBOX", "FETCH 1 FOO"}},
		"SELECT":             {"INBOX", []string{"SELECT INBOX", "SELECT \"x"}},
		"text with literals": {"INBOX", []string{"SELECT INBOX", "UID SEARCH CHARSET UTF-8 TEXT {9}\r\nmodseq \xc3\xa4"}},
		"a literal name":     {"Gr&APw-n", []string{"SELECT {8}\r\nGr&APw-n"}},
		"one of LITERAL+":    {"Gr&APw-n", []string{"EXAMINE {8+}\r\nGr&APw-n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, labOptions{quietAfter: time.Nanosecond})
			user := l.newUser()
			d := l.writer(user, c.mailbox, 3)
			w := imaptest.NewModelWatcher(l.login(user), imaptest.ModelPlain, d.Truth)
			for _, line := range c.lines {
				before, literal, _ := strings.Cut(line, "\r\n")
				w.Write("p1 " + before)
				if literal != "" {
					if strings.HasSuffix(before, "}") && !strings.HasSuffix(before, "+}") {
						w.Expect("+{*}")
					}
					w.Write(literal)
				}
				heard, tagged := w.HearUntil("p1")
				if bad := line != c.lines[0] && literal == ""; (tagged.Status() == "BAD") != bad {
					t.Fatalf("%s: %v %s", line, heard, tagged)
				}
			}
			w.Say("UID FETCH 1:* (FLAGS)")
			l.parked(w.Client) // quiet
			d.Append(1)
			d.Expunge(1)
			w.Say("NOOP")
			w.BeginIdle()
			l.parked(w.Client)
			d.Append(1)
			w.Counts(len(d.Truth.Messages))
			w.EndIdle()
			w.Agrees(d.Truth)
			w.MustOK("LOGOUT")
		})
	}
}

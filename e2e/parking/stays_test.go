package parking

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"imapproxy/proxy"
)

// A client that has a NOTIFY, a $ or more of its own stays attached, and
// 'imapproxy sessions' says why.
func whatOnlyTheBackendKnowsKeepsASessionAttached(t *testing.T, s *site) {
	both := map[string][]string{
		"message_numbers": {"SELECT INBOX", "FETCH 1:* (UID)"},
		"condstore":       {"SELECT INBOX (CONDSTORE)"},
		"unknown_command": {"COMPARATOR"},
	}
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
				if a := c.Cmd("%s", line); !a.OK() && !strings.HasPrefix(line, "COMPARATOR") {
					t.Fatal(a)
				}
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
	if s.Kind == "dovecot" {
		for want, commands := range dovecot {
			stays(want, commands)
		}
	}
}

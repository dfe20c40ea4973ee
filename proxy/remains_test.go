package proxy

import (
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// What is said of other mailboxes, of annotations and of URLs leaves nothing on the backend's connection,
// so a session that has said it is parked.
func TestASessionIsParkedThatHasSaidWhatLeavesNothingBehind(t *testing.T) {
	for _, command := range []string{
		`XLIST "" "*"`,
		`GETANNOTATION INBOX "/comment" "value.shared"`,
		`URLFETCH "imap://alice@example.org/INBOX;UIDVALIDITY=7/;UID=1;URLAUTH=anonymous:internal:1"`,
		`ESEARCH IN (mailboxes "Work" subtree "Archive") RETURN (COUNT) UNSEEN`,
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			p := newScripted(t, scriptedCaps, 2)
			c := p.idle("SELECT INBOX", command)
			done(c)
			c.MustOK("UID FETCH 1 (FLAGS)")
			if n := len(p.said("SELECT")); n != 2 {
				t.Errorf("selected %d times", n)
			}
		})
	}
}

// A session is parked whose commands had literals, or were too long to be seen at once, and one whose
// mailbox was named by a literal is resumed there.
func TestASessionIsParkedThatHasSaidLiterals(t *testing.T) {
	for name, c := range map[string]struct {
		selects, mailbox string
		commands         []string
	}{
		"a search":           {"SELECT INBOX", "INBOX", []string{"UID SEARCH CHARSET UTF-8 TEXT {3+}\r\n\xc3\xa4b"}},
		"modseq as text":     {"SELECT INBOX", "INBOX", []string{"UID SEARCH TEXT {8+}\r\nmodseq 3"}},
		"STATUS":             {"SELECT INBOX", "INBOX", []string{"STATUS {4+}\r\nWork (MESSAGES)"}},
		"a long line":        {"SELECT INBOX", "INBOX", []string{"UID FETCH 1" + strings.Repeat(",1", 5000) + " (FLAGS)"}},
		"SELECT":             {"SELECT {6+}\r\nWork&-", "Work&-", nil},
		"EXAMINE":            {"EXAMINE {5+}\r\nA \"B\\", `A \"B\\`, nil},
		"RENAME of another":  {"SELECT {4+}\r\nWork", "Work", []string{"RENAME {4+}\r\nPlay {3+}\r\nOld"}},
		"a long name":        {"SELECT \"" + strings.Repeat("n", 1000) + "\"", strings.Repeat("n", 1000), nil},
		"SELECT, CONDSTORE":  {"SELECT {4+}\r\nWork (CONDSTORE)", "Work", nil},
		"APPEND to the same": {"SELECT INBOX", "INBOX", []string{"APPEND INBOX {4+}\r\nmail"}},
	} {
		for _, sync := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", synchronising"}[sync], func(t *testing.T) {
				t.Parallel()
				p := newScripted(t, scriptedCaps, 2)
				client := p.login("alice")
				for _, command := range append([]string{c.selects}, c.commands...) {
					if sync {
						command = strings.ReplaceAll(command, "+}\r\n", "}\r\n")
					}
					says(t, client, command)
				}
				p.idles(client)
				done(client)
				client.MustOK("UID FETCH 1 (FLAGS)")
				again := append(p.said("SELECT"), p.said("EXAMINE")...)
				found := false
				for _, line := range again {
					found = found || strings.Contains(line, `"`+c.mailbox+`"`) && strings.HasPrefix(line, "ip")
				}
				if !found {
					t.Errorf("resumed by %q", again)
				}
			})
		}
	}
}

// says has a client say a command whose literals it waits with where the server is to agree.
func says(t *testing.T, c *imaptest.Client, command string) {
	t.Helper()
	parts := strings.SplitAfter("lit "+command+"\r\n", "}\r\n")
	text := ""
	for i, part := range parts {
		text += part
		if i < len(parts)-1 && strings.HasSuffix(part, "+}\r\n") {
			continue
		}
		must(t, c.SendRaw(text))
		text = ""
		if i < len(parts)-1 {
			c.Expect("+{*}")
		}
	}
	for {
		if r := c.Read(); r.Tag() == "lit" {
			if r.Status() != "OK" {
				t.Fatalf("%q: %s", command, r)
			}
			return
		}
	}
}

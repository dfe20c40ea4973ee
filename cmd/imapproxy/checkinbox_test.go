package main

import (
	"bufio"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
)

// All backends are checked at once. With shared storage another backend may be making the user's INBOX just when this one is to open it: the check
// tries once more, and no further.
func TestCheckOpensAnInboxThatIsBeingMade(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	for failures, well := range map[int32]bool{1: true, 2: false} {
		var opened atomic.Int32
		b := imaptest.NewBackend(t, func(c *imaptest.BackendConn) error {
			fmt.Fprintf(c.Conn, "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR LITERAL+ IDLE UIDPLUS] hello\r\n")
			for lines := bufio.NewScanner(c.Conn); lines.Scan(); {
				words := append(strings.Fields(lines.Text()), "", "")
				switch {
				case strings.EqualFold(words[1], "EXAMINE") && opened.Add(1) <= failures:
					fmt.Fprintf(c.Conn, "%s NO Mailbox already exists\r\n", words[0])
				case strings.EqualFold(words[1], "LOGOUT"):
					fmt.Fprintf(c.Conn, "* BYE\r\n%s OK\r\n", words[0])
					return nil
				case strings.EqualFold(words[1], "CAPABILITY"):
					fmt.Fprintf(c.Conn, "* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR LITERAL+ IDLE UIDPLUS\r\n%s OK\r\n", words[0])
				default:
					fmt.Fprintf(c.Conn, "%s OK\r\n", words[0])
				}
			}
			return nil
		})
		text := strings.Replace(file(nil, ""), "discovery \"static\" {\n", "discovery \"static\" {\n  backend \"b1\" {\n    address = \""+b.Addr+"\"\n  }\n", 1)
		out := check(t, text, "alice", "alice").stdout.String()
		if got := strings.Contains(out, "ok    login b1          alice is logged in and INBOX opens"); got != well || opened.Load() != 2 {
			t.Errorf("%d failures, %d tries:\n%s", failures, opened.Load(), out)
		}
	}
}

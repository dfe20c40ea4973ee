package e2e

import (
	"fmt"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// Bytes that a server takes for commands and the proxy for a literal leave nothing to the user's
// next session: it finds no mailbox selected.
func TestBytesThatServersReadAsCommandsLeaveNoTrace(t *testing.T) {
	t.Parallel()
	for _, start := range []func(testing.TB) *servers.Server{
		func(t testing.TB) *servers.Server { return servers.StartDovecot(t, servers.DovecotOptions{}) },
		servers.StartCyrus,
	} {
		server := start(t)
		t.Run(server.Name, func(t *testing.T) {
			p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}})
			const hidden = "s SELECT INBOX\r\n"
			for i, command := range []string{
				"NOOP {%d+}", "CHECK {%d+}", "CLOSE {%d+}", "EXPUNGE {%d+}", "UNSELECT {%d+}", "NAMESPACE {%d+}", "CAPABILITY {%d+}", "IDLE {%d+}", "NOOP x {%d+}",
				`STATUS "x {%d+}`, `STATUS INBOX {%d+}`, `SELECT "x {%d+}`, `APPEND "x {%d+}`, `LIST "" "x\" {%d+}`, `LIST x{%d+}`,
				"ENABLE {%d+}", "ENABLE CONDSTORE {%d+}", "ID {%d+}", "FETCH 1 {%d+}", "UID FETCH 1 {%d+}", "STORE 1 {%d+}", "UID STORE 1 FLAGS {%d+}", "UID EXPUNGE {%d+}", "XYZZY {%d+}", "UID XYZZY {%d+}",
			} {
				user := servers.User(1 + i)
				c := imaptest.Dial(t, p.Plain)
				c.Login(user, servers.Password)
				c.Conn.SendRaw(fmt.Sprintf("d "+command+"\r\n"+hidden+"\r\nDONE\r\nn NOOP\r\n", len(hidden)))
				for {
					r, err := c.Conn.Next()
					if err != nil {
						break // the server has had enough
					}
					if strings.HasPrefix(r.Text, "n ") {
						c.Write("z LOGOUT") // and what follows it up to the end of the connection
					}
				}
				_ = c.Conn.Close()
				next := imaptest.Dial(t, p.Plain)
				next.Login(user, servers.Password)
				if a := next.Cmd("UID SEARCH ALL"); a.OK() {
					t.Errorf("%s: the next session has a mailbox selected: %v", command, a)
				}
				_ = next.Conn.Close()
			}
		})
	}
}

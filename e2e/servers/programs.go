package servers

import (
	"fmt"
	"strings"
)

// OfflineIMAPConfig is a configuration with which OfflineIMAP copies a user's account from an IMAP server at localhost, over TLS, into home/mail, and keeps its state in home/state.
// Lines stand with the server's settings, and say how the user logs in ("remotepass = …"). It goes on for as long as it is let, unless it is called with -o.
func OfflineIMAPConfig(home, port, user, certFile string, lines ...string) string {
	return fmt.Sprintf(`[general]
accounts = a
metadata = %[1]s/state
ui = basic
[Account a]
localrepository = l
remoterepository = r
autorefresh = 600
[Repository l]
type = Maildir
localfolders = %[1]s/mail
[Repository r]
type = IMAP
remotehost = localhost
remoteport = %[2]s
remoteuser = %[3]s
ssl = yes
sslcacertfile = %[4]s
%[5]s
`, home, port, user, certFile, strings.Join(lines, "\n"))
}

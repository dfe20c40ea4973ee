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

// GetmailConfig is a configuration with which getmail hands a user's mail at localhost, over TLS, to the program deliver and deletes it. It refuses to deliver as root, unless it's by a
// command that is said to be fine.
func GetmailConfig(port, user, certFile, deliver string) string {
	return fmt.Sprintf(`[retriever]
type = SimpleIMAPSSLRetriever
server = localhost
port = %s
username = %s
password = %s
ca_certs = %s
[destination]
type = MDA_external
path = %s
allow_root_commands = true
[options]
delete = true
`, port, user, Password, certFile, deliver)
}

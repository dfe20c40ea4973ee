package idlers

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"imapproxy/e2e/servers"
)

// muttEntry is a line of the index: its number and its subject.
var muttEntry = regexp.MustCompile(`<(\d+)\|([^|]*)\|`)

// mutt and its successor: a person looks at the index, deletes a message by the number
// that stands before it, and writes that back; with late after others have changed the
// mailbox once more. neomutt 20220429 asks then for new mail by numbers from before its own
// EXPUNGE, or forgets what was marked, with Cyrus alone as well.
func mutt(a *account, name string, late bool) {
	a.seed("seed", "")
	deflates := ""
	if name == "mutt" { // neomutt needs no setting, and may be built without it
		deflates = "set imap_deflate = yes"
	}
	rc := a.file("muttrc", fmt.Sprintf(`
set spoolfile = "imaps://%s@localhost:%s/INBOX"
set imap_pass = "%s"
set ssl_ca_certificates_file = "%s"
set imap_idle = yes
%s
set timeout = 1
set mail_check = 1
set sort = mailbox-order
set index_format = "<%%C|%%s|%%Z>"
set delete = yes
set confirmappend = no
set wait_key = no
set mark_old = no
set beep = no
set read_inc = 0
set net_inc = 0
set sleep_time = 0
set folder = %s
set record = ""
set postponed = ""
`, a.user, a.port(), servers.Password, a.l.CertFile, deflates, a.home))
	t := newTerminal(a, a.command(name, "-n", "-F", rc))
	t.lists(muttEntry, a.have)
	a.rounds(func() {
		a.parked()
		a.expunge(a.any(""))
		a.deliver(mail{"new", ""}, mail{"new", ""})
		t.lists(muttEntry, a.have)

		a.parked()
		victim := a.any("")
		// The number that the index has before it.
		t.keys(fmt.Sprintf("%d\rd", slices.Index(a.have, victim)+1))
		t.shows(victim+" to be marked", func(lines []string) error {
			for _, l := range lines {
				if strings.Contains(l, "|"+victim+"|") && strings.Contains(l, "D") {
					return nil
				}
			}
			return fmt.Errorf("it isn't")
		})
		a.parked()
		if late {
			other := a.any("")
			for other == victim {
				other = a.any("")
			}
			a.expunge(other)
			a.deliver(mail{"late", ""})
		}
		a.gone(victim)
		// Where it has just seen that the mailbox isn't the same any more, it says so
		// and wants to be asked again.
		var asked time.Time
		a.eventually(name+" to have written it back", func() error {
			if time.Since(asked) > 2*time.Second {
				t.keys("$")
				asked = time.Now()
			}
			return t.listed(muttEntry, a.have)
		})
		a.settles(name + " deleted " + victim)
	})
	t.keys("q")
	t.ends()
}

// deflates says whether a mutt was built with COMPRESS: neomutt is in Debian 13, and isn't in Debian 12.
func deflates(name string) bool {
	out, _ := exec.Command(name, "-Q", "imap_deflate").Output() // its status says nothing
	return strings.Contains(string(out), "yes")
}

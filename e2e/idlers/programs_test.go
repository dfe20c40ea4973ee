package idlers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"imapproxy/e2e/servers"
)

// file writes one into the client's home; programs insist that no other user can read their
// password.
func (a *account) file(name, content string) string {
	a.Helper()
	path := filepath.Join(a.home, name)
	must(a, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// command is a program with a home of its own.
func (a *account) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "HOME="+a.home, "XDG_CONFIG_HOME="+a.home+"/.config", "XDG_DATA_HOME="+a.home+"/.data",
		"XDG_CACHE_HOME="+a.home+"/.cache", "FETCHMAILHOME="+a.home, "LC_ALL=C.UTF-8", "TZ=UTC")
	cmd.Dir = a.home
	return cmd
}

// daemon runs a program until the test ends; it mustn't end by itself.
func (a *account) daemon(name string, args ...string) *servers.Process {
	a.Helper()
	return servers.Start(a, name, a.command(name, args...))
}

// runs fails when a program isn't running any more.
func (a *account) runs(p *servers.Process) {
	a.Helper()
	select {
	case <-p.Done():
		a.Fatalf("it has ended")
	default:
	}
}

func (a *account) port() string { return a.l.TLS[strings.LastIndexByte(a.l.TLS, ':')+1:] }

// takes waits until a program has taken messages out of INBOX, each once.
func (a *account) takes(p *servers.Process, subjects ...string) {
	a.Helper()
	a.eventually(fmt.Sprintf("%v to be taken", subjects), func() error {
		a.runs(p)
		n := a.taken()
		for _, s := range subjects {
			if n[s] == 0 {
				return fmt.Errorf("%s isn't", s)
			}
		}
		return nil
	})
	for _, s := range subjects {
		a.gone(s)
	}
	a.settles("it was taken")
	for s, n := range a.taken() {
		if n != 1 {
			a.Errorf("%s was taken %d times", s, n)
		}
	}
}

// taken counts, in the file to which a program's command appends the mail it takes, how
// often each message is there.
func (a *account) taken() map[string]int {
	a.Helper()
	b, err := os.ReadFile(filepath.Join(a.home, "taken"))
	if err != nil && !os.IsNotExist(err) {
		a.Fatal(err)
	}
	n := map[string]int{}
	for line := range strings.Lines(string(b)) {
		if subject, ok := strings.CutPrefix(strings.TrimSpace(line), "The text of "); ok {
			n[strings.TrimSuffix(subject, ".")]++
		}
	}
	return n
}

// fetchmail takes what is unread and deletes it, by message numbers: what is read
// stays, above all while others expunge some of it.
func fetchmail(a *account) {
	a.seed("read", `\Seen`)
	rc := a.file("fetchmailrc", fmt.Sprintf(`poll localhost protocol imap port %s
  user "%s" password "%s" idle ssl sslproto "TLS1.2+" sslcertck sslcertfile "%s"
  mda "cat >> %s/taken"
`, a.port(), a.user, servers.Password, a.l.CertFile, a.home))
	p := a.daemon("fetchmail", "-v", "--fetchmailrc", rc, "--nosyslog", "--nodetach",
		"--pidfile", filepath.Join(a.home, "pid")) // root's own is one for all
	a.rounds(func() {
		a.parked()
		a.expunge(a.any("read"))
		new := a.deliver(mail{"unread", ""}, mail{"read", `\Seen`}, mail{"unread", ""})
		a.takes(p, new[0], new[2])
	})
	a.runs(p)
}

// getmail takes all there is and deletes it, by UIDs.
func getmail(a *account) {
	// When the command ends before getmail 6.18 waits for that, it waits for a minute: hence the sleep.
	deliver := a.file("deliver", "#!/bin/sh\ncat >> "+a.home+"/taken\nsleep 0.5\n")
	must(a, os.Chmod(deliver, 0o755))
	rc := a.file("getmailrc", servers.GetmailConfig(a.port(), a.user, a.l.CertFile, deliver))
	p := a.daemon("getmail", "--idle=INBOX", "--getmaildir", a.home, "--rcfile", rc)
	a.rounds(func() {
		a.parked()
		a.takes(p, a.deliver(mail{"new", ""}, mail{"new", ""})...)
	})
	a.runs(p)
}

// imapfilter filters by UIDs. Without wakeonany 2.8.1 doesn't see EXISTS behind an EXPUNGE in one packet,
// with any server.
func imapfilter(a *account) {
	config := a.file("config.lua", fmt.Sprintf(`
options.certificates = false
options.timeout = 120
options.wakeonany = true
account = IMAP {
  server = 'localhost', port = %s, ssl = 'auto',
  username = '%s', password = '%s',
}
while true do
  account.INBOX:contain_subject('move'):move_messages(account.Moved)
  account.INBOX:contain_subject('drop'):delete_messages()
  account.INBOX:enter_idle()
end
`, a.port(), a.user, servers.Password))
	a.filters("imapfilter", "-v", "-t", a.l.CertFile, "-c", config)
}

// imapTools is a script with Python's imaplib and imap_tools: it filters by UIDs.
func imapTools(a *account) {
	script := a.file("filter.py", fmt.Sprintf(`
import faulthandler, ssl
from imap_tools import MailBox
faulthandler.dump_traceback_later(50, repeat=True)
context = ssl.create_default_context(cafile='%s')
with MailBox('localhost', %s, ssl_context=context).login('%s', '%s', 'INBOX') as box:
    while True:
        box.move(box.uids('SUBJECT move'), 'Moved')
        box.delete(box.uids('SUBJECT drop'))
        box.idle.start()
        while not box.idle.poll(timeout=60): pass
        box.idle.stop()
`, a.l.CertFile, a.port(), a.user, servers.Password))
	a.filters("/usr/bin/python3", script)
}

// mailIMAPClient is a script with Perl's Mail::IMAPClient: it filters by message numbers.
func mailIMAPClient(a *account) {
	script := a.file("filter.pl", fmt.Sprintf(`
use strict;
use Mail::IMAPClient;
my $box = Mail::IMAPClient->new(
  Server => 'localhost', Port => %s, User => '%s', Password => '%s', Uid => 0,
  Ssl => [ SSL_ca_file => '%s', SSL_verifycn_name => 'localhost' ],
) or die "connect: $@";
$box->select('INBOX') or die $box->LastError;
sub filter {
  my ($kind, $into) = @_;
  my $found = $box->search('SUBJECT', $kind) or die $box->LastError;
  return unless @$found;
  if ($into) {
    $box->copy($into, @$found) or die $box->LastError;
    $found = $box->search('SUBJECT', $kind) or die $box->LastError; # servers tell of EXPUNGE behind COPY: other numbers
  }
  $box->delete_message(@$found) or die $box->LastError;
  $box->expunge or die $box->LastError;
}
while (1) {
  filter('move', 'Moved');
  filter('drop');
  my $idle = $box->idle or die $box->LastError;
  my $told;
  until ($told) {
    my $lines = $box->idle_data(60) or die $box->LastError;
    $told = grep /^\* \d+ (EXISTS|EXPUNGE)/i, @$lines;
  }
  $box->done($idle) or die $box->LastError;
}
`, a.port(), a.user, servers.Password, a.l.CertFile))
	a.filters("/usr/bin/perl", script)
}

// filters runs a program that moves mail of one kind away and deletes that of another, whenever IDLE
// tells of anything.
func (a *account) filters(name string, args ...string) {
	a.Helper()
	a.seed("keep", "")
	a.other.MustOK("CREATE Moved")
	p := a.daemon(name, args...)
	var moved []string
	a.rounds(func() {
		a.parked()
		a.expunge(a.any("keep"))
		if a.round%2 == 0 {
			moved = append(moved, a.deliver(mail{"move", ""})...)
			a.gone(moved[len(moved)-1])
		} else {
			a.gone(a.deliver(mail{"drop", ""})[0])
		}
		// It searches, then idles, and what comes between the two doesn't wake it, with
		// any server.
		nudge := time.Now().Add(5 * time.Second)
		a.eventually("the work to be done", func() error {
			a.runs(p)
			if time.Now().After(nudge) {
				a.deliver(mail{"keep", ""})
				nudge = time.Now().Add(5 * time.Second)
			}
			if got := a.subjects("INBOX"); !slices.Equal(got, a.have) {
				return fmt.Errorf("INBOX has\n%v, want\n%v", got, a.have)
			}
			if got := a.subjects("Moved"); len(got) > len(moved) {
				a.Fatalf("it has moved\n%v, want\n%v", got, moved)
			} else if !slices.Equal(got, moved) {
				return fmt.Errorf("it has moved\n%v, want\n%v", got, moved)
			}
			return nil
		})
		a.deliver(mail{"keep", ""})
	})
	a.runs(p)
}

// offlineimap keeps a copy and idles, and what is deleted in the copy is deleted.
func offlineimap(a *account) {
	a.seed("seed", "")
	rc := a.file("offlineimaprc", servers.OfflineIMAPConfig(a.home, a.port(), a.user, a.l.CertFile, "remotepass = "+servers.Password, "idlefolders = ['INBOX']", "holdconnectionopen = yes",
		"usecompression = "+map[bool]string{true: "yes", false: "no"}[a.l.compress], "keepalive = 60", "folderfilter = lambda name: name == 'INBOX'"))
	p := a.daemon("offlineimap", "-c", rc)
	dir := filepath.Join(a.home, "mail", "INBOX")
	a.copied(p, dir)
	a.rounds(func() {
		a.parked()
		victim := a.any("")
		must(a, os.Remove(a.copyOf(dir, victim)))
		a.gone(victim)
		a.expunge(a.any(""))
		a.deliver(mail{"new", ""}, mail{"new", ""})
		a.copied(p, dir)
		a.settles("offlineimap deleted " + victim)
	})
	a.runs(p)
}

// copied waits until a maildir has what INBOX has to have.
func (a *account) copied(p *servers.Process, dir string) {
	a.Helper()
	want := slices.Sorted(slices.Values(a.have))
	a.eventually("the copy", func() error {
		if p != nil {
			a.runs(p)
		}
		if got := a.copies(dir); !slices.Equal(got, want) {
			return fmt.Errorf("it has\n%v, want\n%v", got, want)
		}
		return nil
	})
}

// copies are the subjects in a maildir, sorted.
func (a *account) copies(dir string) []string {
	a.Helper()
	var all []string
	for _, m := range a.maildir(dir) {
		all = append(all, m.subject)
	}
	slices.Sort(all)
	return all
}

func (a *account) copyOf(dir, subject string) (file string) {
	a.Helper()
	for _, m := range a.maildir(dir) {
		if m.subject == subject {
			return m.file
		}
	}
	a.Fatalf("no copy of %s", subject)
	return ""
}

// A copiedMessage is one of a maildir's.
type copiedMessage struct{ file, subject string }

func (a *account) maildir(dir string) (found []copiedMessage) {
	a.Helper()
	for _, sub := range []string{"cur", "new"} {
		files, err := filepath.Glob(filepath.Join(dir, sub, "*"))
		must(a, err)
		for _, f := range files {
			b, err := os.ReadFile(f)
			if os.IsNotExist(err) {
				continue // renamed meanwhile
			}
			must(a, err)
			_, rest, _ := strings.Cut(string(b), "Subject: ")
			subject, _, _ := strings.Cut(rest, "\n")
			found = append(found, copiedMessage{f, strings.TrimSpace(subject)})
		}
	}
	return found
}

// mbsync doesn't idle, but comes again and again, while another client of the same
// user does; its sessions may be given the connections that the other's left.
func mbsync(a *account) {
	a.seed("seed", "")
	sync := mbsyncOf(a, "")
	dir := filepath.Join(a.home, "mail", "INBOX")
	waits := newWaiter(a)
	must(a, sync())
	a.copied(nil, dir)
	a.rounds(func() {
		a.parked()
		victim := a.any("")
		must(a, os.Remove(a.copyOf(dir, victim)))
		a.gone(victim)
		a.expunge(a.any(""))
		a.deliver(mail{"new", ""}, mail{"new", ""})
		must(a, sync())
		a.copied(nil, dir)
		a.settles("mbsync deleted " + victim)
		waits.sees(len(a.have))
	})
}

// mbsyncOf is mbsync with a configuration for INBOX: each call has it copy both ways, to its end. The copy is a.home/mail/INBOX.
func mbsyncOf(a *account, more string) (sync func() error) {
	a.Helper()
	rc := a.file("mbsyncrc", fmt.Sprintf(`
IMAPStore far
Host localhost
Port %s
User %s
Pass "%s"
SSLType IMAPS
CertificateFile %s
%s
MaildirStore near
Path %s/mail/
Inbox %s/mail/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns INBOX
Create Near
Expunge Both
SyncState *
`, a.port(), a.user, servers.Password, a.l.CertFile, more, a.home, a.home))
	must(a, os.MkdirAll(filepath.Join(a.home, "mail"), 0o755))
	return func() error {
		ctx, cancel := context.WithTimeout(a.Context(), patience)
		defer cancel()
		cmd := a.command("mbsync", "-c", rc, "c")
		cmd = exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
		cmd.Dir, cmd.Env = a.home, a.command("mbsync").Env
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("mbsync: %w\n%s", err, out)
		}
		return nil
	}
}

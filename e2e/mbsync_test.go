package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// What must be the same of a message on both sides.
type copied struct {
	flags string // of \Answered \Flagged \Seen, in maildir's letters: RFS
	text  string // digest of the body
}

// mbsync keeps two sides the same, in both directions: new mail, flags,
// deletions, mailboxes. Through the proxy it must leave them identical.
func TestMbsyncLeavesBothSidesIdentical(t *testing.T) {
	t.Parallel()
	for _, start := range []func(testing.TB) *servers.Server{
		func(t testing.TB) *servers.Server {
			return servers.StartDovecot(t, servers.DovecotOptions{Store: "maildir"})
		},
		servers.StartCyrus,
	} {
		server := start(t)
		t.Run(server.Name, func(t *testing.T) {
			proxy := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}})
			syncTwoWays(t, proxy, servers.User(1))
		})
	}
}

func syncTwoWays(t *testing.T, p *runningProxy, user string) {
	home := t.TempDir()
	local := filepath.Join(home, "mail")
	rc := privateFile(t, filepath.Join(home, "mbsyncrc"), fmt.Sprintf(`IMAPAccount proxy
Host localhost
Port %s
User %s
Pass %s
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account proxy

MaildirStore near
Path %[5]s/
Inbox %[5]s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove None
Expunge Both
SyncState *
`, port(p.TLS), user, servers.Password, p.Cert.CertFile, local))
	sync := func() { client(t, home, "mbsync", "-c", rc, "all") }

	// Mail on the far side, and a mailbox that's only on the near one.
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("far-%d", i))
	}
	seed(t, p, user, "INBOX", names...)
	seed(t, p, user, "Work", "work-1", "work-2")
	if err := os.MkdirAll(local, 0o755); err != nil {
		t.Fatal(err)
	}
	deliver(t, filepath.Join(local, "Near"), "near-1", "near-2")
	sync()
	sameMail(t, p, user, local, map[string]int{"INBOX": 40, "Work": 2, "Near": 2})

	// Both sides change: flags and deletions there, new mail and a flag here.
	c := imaptest.DialTLS(t, p.TLS, p.Cert.Client)
	c.Login(user, servers.Password)
	c.MustOK("SELECT INBOX")
	c.MustOK(`STORE 1:10 +FLAGS (\Seen \Flagged)`)
	c.MustOK(`STORE 11:15 +FLAGS (\Deleted)`)
	c.MustOK("EXPUNGE")
	c.MustOK("LOGOUT")
	seed(t, p, user, "Later", "later-1")
	deliver(t, filepath.Join(local, "INBOX"), "near-3", "near-4")
	flagged := mark(t, filepath.Join(local, "Work"), "RS")
	sync()
	sync()
	sameMail(t, p, user, local, map[string]int{"INBOX": 37, "Work": 2, "Near": 2, "Later": 1})
	if got := readIMAP(t, p, user, "Work")[flagged].flags; got != "RS" {
		t.Errorf("%s was marked RS here and is %q there", flagged, got)
	}
}

// sameMail fails unless both sides have the same messages.
func sameMail(t *testing.T, p *runningProxy, user, local string, counts map[string]int) {
	t.Helper()
	for mailbox, want := range counts {
		near := readMaildir(t, filepath.Join(local, mailbox))
		far := readIMAP(t, p, user, mailbox)
		if len(far) != want {
			t.Errorf("%s has %d messages there, want %d", mailbox, len(far), want)
		}
		if maps.Equal(near, far) {
			continue
		}
		t.Errorf("%s differs: %d messages here, %d there", mailbox, len(near), len(far))
		for id := range near {
			if near[id] != far[id] {
				t.Errorf("%s: %s is %v here and %v there", mailbox, id, near[id], far[id])
			}
		}
	}
}

// deliver puts new messages into a maildir, which it makes.
func deliver(t *testing.T, dir string, subjects ...string) {
	t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range subjects {
		var b bytes.Buffer
		if _, err := b.ReadFrom(message(s).Open()); err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(b.String(), "\r\n", "\n")
		writeFile(t, filepath.Join(dir, "new", fmt.Sprintf("1000000%d.M%dP1.e2e", i, i)), text)
	}
}

// mark gives one message of a maildir flags and returns its id.
func mark(t *testing.T, dir, flags string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "cur", "*"))
	if more, _ := filepath.Glob(filepath.Join(dir, "new", "*")); err == nil {
		files = append(files, more...)
	}
	if len(files) == 0 {
		t.Fatalf("no message in %s (%v)", dir, err)
	}
	base, _, _ := strings.Cut(filepath.Base(files[0]), ":2,")
	marked := filepath.Join(dir, "cur", base+":2,"+flags)
	if err := os.Rename(files[0], marked); err != nil {
		t.Fatal(err)
	}
	id, _ := readMessage(t, marked)
	return id
}

// readMaildir is a maildir's messages by their ids.
func readMaildir(t *testing.T, dir string) map[string]copied {
	t.Helper()
	found := map[string]copied{}
	for _, sub := range []string{"cur", "new"} {
		files, err := filepath.Glob(filepath.Join(dir, sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			id, text := readMessage(t, f)
			_, flags, _ := strings.Cut(filepath.Base(f), ":2,")
			found[id] = copied{maildirFlags(flags), text}
		}
	}
	return found
}

func readMessage(t *testing.T, file string) (id, text string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return digest(t, b)
}

// maildirFlags are the letters that both sides keep, sorted.
func maildirFlags(s string) string {
	letters := []byte{}
	for _, f := range []byte(s) {
		if strings.IndexByte("FRS", f) >= 0 {
			letters = append(letters, f)
		}
	}
	slices.Sort(letters)
	return string(letters)
}

// readIMAP is a mailbox's messages by their ids.
func readIMAP(t *testing.T, p *runningProxy, user, mailbox string) map[string]copied {
	t.Helper()
	c := imaptest.DialTLS(t, p.TLS, p.Cert.Client)
	c.Login(user, servers.Password)
	c.MustOK("EXAMINE %s", imaptest.Quote(mailbox))
	found := map[string]copied{}
	for _, r := range c.MustOK("FETCH 1:* (FLAGS BODY.PEEK[])").Untagged {
		if r.Word(2) != "FETCH" || len(r.Literals) != 1 {
			continue
		}
		flags := ""
		for name, letter := range map[string]string{`\Answered`: "R", `\Flagged`: "F", `\Seen`: "S"} {
			if strings.Contains(r.Text, name) {
				flags += letter
			}
		}
		id, text := digest(t, r.Literals[0].Data)
		found[id] = copied{maildirFlags(flags), text}
	}
	c.MustOK("LOGOUT")
	return found
}

// digest is a message's id and the digest of its body, whatever its line ends.
func digest(t *testing.T, message []byte) (id, text string) {
	t.Helper()
	message = bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n"))
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		t.Fatalf("%v in %.200q", err, message)
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(m.Body); err != nil {
		t.Fatal(err)
	}
	return m.Header.Get("Message-ID"), fmt.Sprintf("%x", sha256.Sum256(body.Bytes()))
}

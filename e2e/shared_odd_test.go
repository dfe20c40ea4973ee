package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// inQuotes is a name as a quoted string.
func inQuotes(name string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}

// Mailboxes with any character in their names, and deep in a hierarchy of which the user may see nothing else, are listed, found level by level, and used.
func TestSharedMailboxesWithOddNames(t *testing.T) {
	t.Parallel()
	l := newSharedLab(t, true, "")
	alice, bob := servers.User(1), servers.User(2)
	own := l.direct(t, 1)
	c := l.client(t, 2)
	names := []string{`a "quoted" name`, "per%cent", "st*r", "(paren)", "[bracket]", "{5}", "{5+}", "with space", "dots.in.it", "M&APw-nchen", "&ZeVnLIqe-", "A&-B", "others", bob, "#news", "-", "deep/in/a/hierarchy/of/levels",
		strings.Repeat("long", 50)}
	for _, name := range names {
		own.MustOK("CREATE %s", inQuotes(name))
		own.MustOK("SETACL %s %s lrswipte", inQuotes(name), bob)
	}
	all := c.MustOK(`LIST "" "others/*"`)
	for _, name := range names {
		shared := "others/" + alice + "/" + name
		if !has(all, " "+inQuotes(shared)) {
			t.Errorf("%s isn't listed:\n%s", shared, all)
		}
		c.MustOK("SELECT %s", inQuotes(shared))
		if a := c.Literal("APPEND "+inQuotes(shared)+" ", message("odd"), ""); !a.OK() {
			t.Errorf("%s", a)
		}
		if a := c.Literal("STATUS ", imaptest.BytesPayload([]byte(shared)), " (MESSAGES)"); !a.OK() || !has(a, inQuotes(shared)+" (MESSAGES 1)") {
			t.Errorf("%s", a)
		}
		if a := c.MustOK("MYRIGHTS %s", inQuotes(shared)); !has(a, inQuotes(shared)+" lr") {
			t.Errorf("%s", a)
		}
		c.MustOK("NOOP")
		if a := c.MustOK("MOVE 1 INBOX"); len(lines(a, "EXPUNGE")) != 1 {
			t.Errorf("%s: %s", shared, a)
		}
	}
	for at := "others/" + alice; ; {
		a := c.MustOK(`LIST "" %s`, inQuotes(at+"/%"))
		rest, below := strings.CutPrefix("others/"+alice+"/deep/in/a/hierarchy/of/levels", at+"/")
		if !below {
			break
		}
		next, _, _ := strings.Cut(rest, "/")
		if at += "/" + next; !has(a, inQuotes(at)) {
			t.Fatalf("%s isn't found: %s", at, a)
		}
	}
	for _, cmd := range []string{`LIST (SUBSCRIBED RECURSIVEMATCH) "" %`, `LIST "" others/*/levels RETURN (STATUS (MESSAGES SIZE) SPECIAL-USE CHILDREN)`, `LIST (REMOTE SUBSCRIBED) "" (INBOX others/*) RETURN (SUBSCRIBED)`, `LIST "others/" ""`} {
		if a := c.MustOK("%s", cmd); !has(a, "others") {
			t.Errorf("%s: %s", cmd, a)
		}
	}
}

// A thousand messages go to another server, which is killed meanwhile: it has none of them then, and the source all. At the second attempt all go, with flags,
// keywords and dates.
func TestAThousandMessagesMoveToAServerThatIsKilled(t *testing.T) {
	t.Parallel()
	l := newSharedLab(t, true, "")
	own := l.direct(t, 1)
	own.MustOK("CREATE team")
	own.MustOK("SETACL team %s lrswipte", servers.User(2))
	const n = 1000
	var all strings.Builder
	for i := range n {
		text := fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", i, strings.Repeat("x", 200))
		fmt.Fprintf(&all, " (\\Flagged Key%d) \"0%d-Feb-2024 10:00:00 +0000\" {%d+}\r\n%s", i%3, i%9+1, len(text), text)
	}
	direct := l.direct(t, 2)
	direct.Write("f APPEND INBOX" + all.String())
	for r := direct.Read(); r.Tag() != "f"; r = direct.Read() {
	}
	c := l.client(t, 2)
	c.MustOK("SELECT INBOX")
	c.Write("m MOVE 1:* others/" + servers.User(1) + "/team")
	for r := c.Read(); r.Word(2) != "FETCH"; r = c.Read() {
	}
	l.dovecot[0].Process.Kill()
	answer := c.Read()
	for ; answer.Tag() != "m"; answer = c.Read() {
		if answer.Word(2) == "EXPUNGE" {
			t.Fatalf("a message was removed: %s", answer)
		}
	}
	if answer.Status() != "NO" {
		t.Fatalf("%s", answer)
	}
	if a := c.MustOK("STATUS INBOX (MESSAGES)"); !has(a, fmt.Sprintf("MESSAGES %d", n)) {
		t.Errorf("%s", a)
	}
	if a := c.MustOK("SEARCH DELETED"); a.Untagged[0].Text != "* SEARCH" {
		t.Errorf("%s", a)
	}
	l.dovecot[0].StartAgain(t)
	l.proxy.eventually(t, "with the other server", func() error {
		if a := c.Cmd("STATUS others/%s/team (MESSAGES)", servers.User(1)); !has(a, "MESSAGES 0") {
			return fmt.Errorf("%s", a)
		}
		return nil
	})
	a := c.MustOK("MOVE 1:* others/%s/team", servers.User(1))
	if !has(a, "COPYUID") || len(lines(a, "EXPUNGE")) != n {
		t.Errorf("%d are gone: %s", len(lines(a, "EXPUNGE")), a.Tagged)
	}
	c.MustOK("SELECT others/%s/team", servers.User(1))
	got := c.MustOK("FETCH 1:* (FLAGS INTERNALDATE)").String()
	for text, want := range map[string]int{`\Flagged`: n, "Key0": 334, "Key1": 333, "Key2": 333, "-Feb-2024 10:00:00 +0000": n} {
		if have := strings.Count(got, text); have != want {
			t.Errorf("%d messages have %s, want %d", have, text, want)
		}
	}
}

// A pause counts another user's session that has a mailbox at the backend selected, and leaves it there. If the backend is restarted the session ends, and says why.
func TestAPausedBackendOfASharedMailboxIsRestarted(t *testing.T) {
	t.Parallel()
	token := filepath.Join(servers.Folder(t), "admin.token")
	writeFile(t, token, "of-the-admin\n")
	l := newSharedLabOf(t, token, true, "")
	command := func(args ...string) string { return l.proxy.command(t, append(args, "--token-file", token)...) }
	own := l.direct(t, 1)
	own.MustOK("CREATE team")
	own.MustOK("SETACL team %s lr", servers.User(2))
	c := l.client(t, 2)
	c.MustOK("SELECT others/%s/team", servers.User(1))
	c.Idle()
	if out := command("pause", "d1", "--for", "5m"); !strings.Contains(out, "1 guest") || !strings.Contains(out, "held by: 1 shared_mailbox") {
		t.Errorf("pause says\n%s", out)
	}
	l.dovecot[0].Process.Stop()
	c.Expect("* BYE [UNAVAILABLE] The mail server has closed the connection, please connect again")
	c.ExpectEOF()
	if out := command("backends"); strings.Contains(out, "guest") {
		t.Errorf("backends says\n%s", out)
	}
	other := l.client(t, 2)
	other.Write("s SELECT others/" + servers.User(1) + "/team")
	other.Expect("* OK Still here{*}")
	l.dovecot[0].StartAgain(t)
	command("resume", "d1")
	for r := other.Read(); r.Tag() != "s"; r = other.Read() {
		if r.Word(1) == "BYE" {
			t.Fatalf("%s", r)
		}
	}
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

const sharedPassword = "pw-Shared.1"

// sharedExtra is configuration of Dovecot by which each user may be a master user with sharedPassword. rights: with the rights of
// their own.
func sharedExtra(t testing.TB, rights bool) string {
	t.Helper()
	if servers.DovecotRelease(t) == "2.4" {
		return `
passdb shared {
  driver = static
  passdb_static_password = ` + sharedPassword + `
  master = yes
  result_success = continue
  fields {
    ` + map[bool]string{true: "userdb_acl_user = %{user}"}[rights] + `
  }
}
`
	}
	return `
passdb {
  driver = static
  args = password=` + sharedPassword + `
  master = yes
  result_success = continue
  ` + map[bool]string{true: "override_fields = userdb_acl_user=%u"}[rights] + `
}
`
}

// sharedBlock is the proxy's.
func sharedBlock(t testing.TB) string {
	t.Helper()
	password := filepath.Join(servers.Folder(t), "shared.password")
	writeFile(t, password, sharedPassword+"\n")
	return fmt.Sprintf("shared {\n  namespace = \"others/\"\n  owner_login = \"master\"\n  password_file = %q\n}\n", password)
}

// sharedLab is a proxy before three Dovecots with separate storage. User n is on d((n-1)%3+1), and the namespace is others/.
type sharedLab struct {
	proxy   *runningProxy
	dovecot []*servers.Server
}

func newSharedLab(t *testing.T, rights bool, further string, dovecot ...string) *sharedLab {
	t.Helper()
	return newSharedLabOf(t, "", rights, further, dovecot...)
}

// newSharedLabOf is newSharedLab with the file of the administrator's token.
func newSharedLabOf(t *testing.T, token string, rights bool, further string, dovecot ...string) *sharedLab {
	t.Helper()
	l := &sharedLab{}
	var all []backend
	for i := 1; i <= 3; i++ {
		d := servers.StartDovecot(t, servers.DovecotOptions{Name: fmt.Sprintf("d%d", i), Extra: sharedExtra(t, rights) + strings.Join(dovecot, "")})
		l.dovecot = append(l.dovecot, d)
		all = append(all, backend{fmt.Sprintf("d%d", i), d.Addr})
	}
	dir := servers.Folder(t)
	users := filepath.Join(dir, "users.passwd")
	var lines strings.Builder
	for i := 1; i <= 6; i++ {
		fmt.Fprintf(&lines, "%s:{PLAIN}%s::::::backend=d%d\n", servers.User(i), servers.Password, (i-1)%3+1)
	}
	writeFile(t, users, lines.String())
	l.proxy = startProxy(t, proxyOptions{Backends: all, Storage: "separate", PasswdFile: users, Master: true, Linger: "1s", AdminToken: token,
		Further: sharedBlock(t) + further})
	return l
}

// client is logged in through the proxy, direct at the user's own Dovecot.
func (l *sharedLab) client(t *testing.T, user int) *imaptest.Client {
	t.Helper()
	c := imaptest.Dial(t, l.proxy.Plain)
	c.Login(servers.User(user), servers.Password)
	return c
}

func (l *sharedLab) direct(t *testing.T, user int) *imaptest.Client {
	t.Helper()
	c := imaptest.Dial(t, l.dovecot[(user-1)%3].Addr)
	c.Login(servers.User(user), servers.Password)
	return c
}

// lines are the untagged responses with this word, sorted as they came.
func lines(a imaptest.Answer, word string) (all []string) {
	for _, r := range a.Untagged {
		if r.Word(1) == word || r.Word(2) == word {
			all = append(all, strings.TrimSpace(r.String()))
		}
	}
	return all
}

func has(a imaptest.Answer, text string) bool { return strings.Contains(a.String(), text) }

func TestSharedMailboxes(t *testing.T) {
	t.Parallel()
	l := newSharedLab(t, true, "")
	alice, bob := servers.User(1), servers.User(2)
	own := l.direct(t, 1)
	for _, box := range []string{"team", "team/sub", "secret"} {
		own.MustOK("CREATE %s", box)
	}
	for i := range 3 {
		own.Literal("APPEND team (\\Flagged key) ", imaptest.GeneratedMessage(int64(500+i*70000), uint64(i)), "")
	}
	own.MustOK("SETACL team %s lrswipte", bob)
	own.MustOK(`LIST "" "*" RETURN (STATUS (MESSAGES))`) // Dovecot answers STATUS from an index, now for everyone
	other := l.direct(t, 2)
	other.MustOK("CREATE plans")
	other.MustOK("SETACL plans %s lr", alice)

	c := l.client(t, 2)
	team := "others/" + alice + "/team"
	if said, _ := l.proxy.check(); strings.Count(said, "the rights are those of the user who opens the mail of") != 3 {
		t.Errorf("imapproxy check: %s", said)
	}
	t.Run("LIST", func(t *testing.T) {
		a := c.MustOK(`LIST "" "*"`)
		if !has(a, `"`+team+`"`) || has(a, "secret") || has(a, "team/sub") || has(a, "others/"+alice+"/INBOX") || !has(a, " INBOX") || !has(a, "plans") {
			t.Errorf("%s", a)
		}
		if a := c.MustOK(`LIST "" "%%"`); !has(a, `(\Noselect \HasChildren) "/" "others"`) || has(a, team) {
			t.Errorf("%s", a)
		}
		if a := c.MustOK(`LIST "" "others/%%"`); len(lines(a, "LIST")) != 1 || !has(a, `"others/`+alice+`"`) {
			t.Errorf("%s", a)
		}
		if a := c.MustOK(`LSUB "" "*"`); !has(a, `"`+team+`"`) {
			t.Errorf("%s", a)
		}
		if a := c.MustOK(`LIST "" (others/%%/%%) RETURN (SUBSCRIBED STATUS (MESSAGES))`); !has(a, `\Subscribed`) || !has(a, `STATUS "`+team+`" (MESSAGES 3)`) {
			t.Errorf("%s", a)
		}
		if a := l.client(t, 3).MustOK(`LIST "" "*"`); has(a, "others") {
			t.Errorf("a user with whom nothing is shared: %s", a)
		}
		if a := l.client(t, 1).MustOK(`LIST "" "*"`); !has(a, `"others/`+bob+`/plans"`) {
			t.Errorf("the other direction: %s", a)
		}
	})
	t.Run("names", func(t *testing.T) {
		if a := c.MustOK("NAMESPACE"); !has(a, `("others/" "/")`) {
			t.Errorf("%s", a)
		}
		if a := c.MustOK("STATUS %s (MESSAGES)", team); !has(a, `STATUS "`+team+`" (MESSAGES 3)`) {
			t.Errorf("%s", a)
		}
		if a := c.MustOK("MYRIGHTS %s", team); !has(a, `MYRIGHTS "`+team+`" lr`) {
			t.Errorf("%s", a)
		}
		for _, cmd := range []string{"GETACL " + team, "SETACL " + team + " " + bob + " a", "CREATE others/" + alice + "/new", "DELETE " + team, "RENAME " + team + " others/" + alice + "/new",
			"RENAME " + team + " mine", "UNSUBSCRIBE " + team, "GETQUOTAROOT " + team, "GETMETADATA " + team + " /private/comment", "CREATE others/new", "CREATE others",
			"STATUS others/" + alice + "/secret (MESSAGES)", "SELECT others/" + alice + "/secret", "SELECT others/" + alice + "/INBOX", "SELECT others/nobody/x", "SELECT others/" + bob + "/plans",
			"SELECT others/" + servers.User(3) + "/INBOX", "NOTIFY SET (mailboxes " + team + " (MessageNew MessageExpunge))"} {
			if a := c.Cmd("%s", cmd); a.Tagged.Status() != "NO" {
				t.Errorf("%s: %s", cmd, a)
			}
		}
		c.MustOK("SUBSCRIBE %s", team)
		if a := own.MustOK(`LSUB "" "*"`); has(a, "team") {
			t.Errorf("the owner's subscriptions: %s", a)
		}
		c.MustOK("STATUS INBOX (MESSAGES)") // as before
	})
	t.Run("SELECT", func(t *testing.T) {
		c.MustOK("SELECT INBOX")
		a := c.MustOK("SELECT %s", team)
		if !has(a, "CLOSED") || !has(a, "3 EXISTS") || !has(a, "READ-WRITE") {
			t.Errorf("%s", a)
		}
		if a := c.MustOK("FETCH 1:* (FLAGS RFC822.SIZE)"); len(lines(a, "FETCH")) != 3 || !has(a, "key") {
			t.Errorf("%s", a)
		}
		if a := c.MustOK("UID FETCH 3 BODY.PEEK[]"); len(lines(a, "FETCH")) != 1 {
			t.Errorf("%s", a)
		}
		c.MustOK(`UID STORE 1 +FLAGS (\Answered)`)
		if a := c.MustOK("STATUS INBOX (MESSAGES)"); !has(a, "STATUS INBOX (MESSAGES 0)") {
			t.Errorf("%s", a)
		}
		if a := c.MustOK("LIST \"\" plans"); !has(a, "plans") {
			t.Errorf("%s", a)
		}
		if a := c.Literal("APPEND INBOX ", message("direct"), ""); !a.OK() {
			t.Errorf("%s", a)
		}
		if a := c.Literal("APPEND "+team+" ", message("direct"), ""); !a.OK() || !has(a, "APPENDUID") {
			t.Errorf("%s", a)
		}
		if a := c.MustOK("NOOP"); !has(a, "4 EXISTS") {
			t.Errorf("%s", a)
		}
		done := c.Idle()
		own.Literal("APPEND team ", message("direct"), "")
		for r := c.Read(); r.Word(2) != "EXISTS"; r = c.Read() {
		}
		done()
		for _, cmd := range []string{"XYZZY", "ENABLE CONDSTORE"} {
			if a := c.Cmd("%s", cmd); a.Tagged.Status() != "BAD" {
				t.Errorf("%s: %s", cmd, a)
			}
		}
		a = c.MustOK("SELECT INBOX")
		if !has(a, "CLOSED") || !has(a, "1 EXISTS") {
			t.Errorf("%s", a)
		}
		c.MustOK("EXAMINE %s", team)
		if a := c.Cmd("STORE 1 +FLAGS (\\Seen)"); a.OK() && len(lines(a, "FETCH")) > 0 {
			t.Errorf("%s", a)
		}
		c.MustOK("CLOSE")
		if a := c.Cmd("FETCH 1 FLAGS"); a.OK() {
			t.Errorf("%s", a)
		}
	})
	t.Run("COPY", func(t *testing.T) {
		c.MustOK("SELECT %s", team)
		c.MustOK("CREATE copies")
		a := c.MustOK("UID COPY 1:3 copies")
		if !has(a, "[COPYUID ") || !has(a, " 1,2,3 1:3]") {
			t.Errorf("%s", a)
		}
		if a := c.Cmd("UID COPY 1 nowhere"); a.Tagged.Status() != "NO" || !has(a, "TRYCREATE") {
			t.Errorf("%s", a)
		}
		if a := c.MustOK("UID COPY 999 copies"); has(a, "COPYUID") {
			t.Errorf("%s", a)
		}
		c.MustOK("SELECT copies")
		if a := c.MustOK("FETCH 1:* (FLAGS INTERNALDATE)"); len(lines(a, "FETCH")) != 3 || strings.Count(a.String(), "key") != 3 || strings.Count(a.String(), `\Flagged`) != 3 {
			t.Errorf("%s", a)
		}
		a = c.MustOK("MOVE 2:3 %s", team)
		if !has(a, "COPYUID") || len(lines(a, "EXPUNGE")) != 2 {
			t.Errorf("%s", a)
		}
		if a := c.MustOK("STATUS %s (MESSAGES)", team); !has(a, "MESSAGES 7") {
			t.Errorf("%s", a)
		}
		if a := c.MustOK("NOOP"); !c.MustOK("STATUS copies (MESSAGES)").OK() {
			t.Errorf("%s", a)
		}
	})
	t.Run("logout", func(t *testing.T) {
		c.MustOK("SELECT %s", team)
		if a := c.MustOK("LOGOUT"); !has(a, "BYE") {
			t.Errorf("%s", a)
		}
		c.ExpectEOF()
	})
}

// A backend that doesn't apply the rights of the user for whom a mailbox is opened shares none.
func TestSharedMailboxesNeedRights(t *testing.T) {
	t.Parallel()
	l := newSharedLab(t, false, "")
	l.proxy.eventually(t, "told by the log, without a client", func() error {
		if n := strings.Count(l.proxy.Output(), "doesn't apply the rights of the users of shared mailboxes"); n != 3 {
			return fmt.Errorf("of %d backends", n)
		}
		return nil
	})
	own := l.direct(t, 1)
	own.MustOK("CREATE team")
	own.MustOK("SETACL team %s lr", servers.User(2))
	c := l.client(t, 2)
	if a := c.Cmd("SELECT others/%s/team", servers.User(1)); a.Tagged.Status() != "NO" || !has(a, "UNAVAILABLE") {
		t.Errorf("%s", a)
	}
	if a := c.MustOK(`LIST "" "*"`); has(a, "others") {
		t.Errorf("%s", a)
	}
	if said, well := l.proxy.check(); well || strings.Count(said, "userdb_acl_user=%u") != 3 {
		t.Errorf("imapproxy check: %s", said)
	}
}

// A Cyrus beside a Dovecot: it has no master users with rights of their own, so nothing is shared from it, also where its administrator
// would let the user in. Its own users use what the Dovecot's share.
func TestSharedMailboxesOfACyrus(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{Name: "d1", Extra: sharedExtra(t, true)})
	cyrus := servers.StartCyrusWith(t, servers.CyrusOptions{Users: 2, Settings: map[string]string{"proxyservers": servers.MasterUser + " " + servers.User(1)}})
	cyrus.SetPassword(t, servers.User(1), sharedPassword) // bob could be anyone there
	alice, bob := servers.User(2), servers.User(1)
	users := filepath.Join(servers.Folder(t), "users.passwd")
	writeFile(t, users, fmt.Sprintf("%s:{PLAIN}%s::::::backend=c1\n%s:{PLAIN}%s::::::backend=d1\n", alice, servers.Password, bob, servers.Password))
	p := startProxy(t, proxyOptions{Backends: []backend{{"d1", dovecot.Addr}, {"c1", cyrus.Addr}}, Storage: "separate", PasswdFile: users, Master: true, Further: sharedBlock(t)})
	client := func(user string) *imaptest.Client {
		c := imaptest.Dial(t, p.Plain)
		c.Login(user, servers.Password)
		return c
	}
	a := client(alice)
	a.MustOK("CREATE team")
	a.MustOK("SETACL team %s lrs", bob)
	b := client(bob)
	b.MustOK("CREATE plans")
	b.MustOK("SETACL plans %s lrs", alice)
	for _, cmd := range []string{"SELECT others/%s/team", "SELECT others/%s/INBOX", "STATUS others/%s/team (MESSAGES)"} {
		if said := b.Cmd(cmd, alice); said.Tagged.Status() != "NO" || !has(said, "UNAVAILABLE") {
			t.Errorf("%s", said)
		}
	}
	if said := b.MustOK(`LIST "" "*"`); has(said, "others") {
		t.Errorf("%s", said)
	}
	b.MustOK("SELECT INBOX")
	// Debian 13's Cyrus has IMAP4rev2, which the Dovecot lacks: a client that was told of it isn't sent there.
	status, why := "OK", "0 EXISTS"
	if has(a.MustOK("CAPABILITY"), "IMAP4rev2") {
		status, why = "NO", "CANNOT"
	}
	if said := a.Cmd("SELECT others/%s/plans", bob); said.Tagged.Status() != status || !has(said, why) {
		t.Errorf("%s", said)
	}
	if said, well := p.check(); well || strings.Count(said, "Cyrus and Courier have no such master users") != 1 {
		t.Errorf("imapproxy check: %s", said)
	}
	if said := p.Output(); !strings.Contains(said, "until then it shares none") {
		t.Error("the log doesn't say why")
	}
}

// A user who loses their rights on a mailbox that they have selected loses the session within the time that rights count.
func TestSharedMailboxWithdrawn(t *testing.T) {
	t.Parallel()
	l := newSharedLab(t, true, "users {\n  recheck = \"1s\"\n}\n")
	own := l.direct(t, 1)
	for _, box := range []string{"idle", "busy"} {
		own.MustOK("CREATE %s", box)
		own.MustOK("SETACL %s %s lr", box, servers.User(2))
	}
	idle, busy := l.client(t, 2), l.client(t, 2)
	idle.MustOK("SELECT others/%s/idle", servers.User(1))
	busy.MustOK("SELECT others/%s/busy", servers.User(1))
	idle.Idle()
	busy.MustOK("NOOP")
	l.restsAtHome(t)
	own.MustOK("DELETEACL idle %s", servers.User(2))
	own.MustOK("DELETEACL busy %s", servers.User(2))
	idle.Expect("* BYE [UNAVAILABLE] Your mailbox has changed, please connect again")
	idle.ExpectEOF()
	for bye := false; !bye; { // each NOOP but the last is answered
		busy.Write("n NOOP")
		for r := busy.Read(); r.Tag() != "n" && !bye; r = busy.Read() {
			if bye = r.Word(1) == "BYE"; bye {
				break
			}
		}
	}
	busy.ExpectEOF()
	if a := l.client(t, 2).Cmd("SELECT others/%s/idle", servers.User(1)); a.Tagged.Status() != "NO" {
		t.Errorf("%s", a)
	}
}

// Names as literals, commands in one packet, and what the client may send behind a command that is refused.
func TestSharedMailboxesInTheStream(t *testing.T) {
	t.Parallel()
	l := newSharedLab(t, true, "")
	own := l.direct(t, 1)
	own.MustOK("CREATE team")
	own.MustOK("SETACL team %s lrswipte", servers.User(2))
	team := "others/" + servers.User(1) + "/team"
	c := l.client(t, 2)
	if a := c.Literal("SELECT ", imaptest.BytesPayload([]byte("INBOX")), ""); !a.OK() || !has(a, "UIDVALIDITY") {
		t.Fatalf("%s", a)
	}
	if a := c.Literal("SELECT ", imaptest.BytesPayload([]byte(team)), ""); !a.OK() || !has(a, "CLOSED") {
		t.Fatalf("%s", a)
	}
	if a := c.Literal("STATUS ", imaptest.BytesPayload([]byte("INBOX")), " (MESSAGES)"); !a.OK() || !has(a, "MESSAGES 0") {
		t.Fatalf("%s", a)
	}
	if a := c.Literal("CREATE ", imaptest.BytesPayload([]byte("a\r\nx DELETE y")), ""); a.Tagged.Status() != "NO" {
		t.Fatalf("%s", a)
	}
	// In one packet: the last ones are for the relay.
	c.Write("p1 NOOP\r\np2 APPEND nowhere/x {5+}\r\nhello\r\np3 APPEND " + team + " {28+}\r\nSubject: in one\r\n\r\nis it?\r\n\r\np4 SELECT INBOX\r\np5 IDLE\r\nDONE\r\np6 STATUS " + team + " (MESSAGES)\r\np7 NOOP")
	got := map[string]string{}
	for len(got) < 7 {
		if r := c.Read(); strings.HasPrefix(r.Tag(), "p") {
			got[r.Tag()] = r.Status()
		} else if r.Word(1) == "STATUS" && !strings.Contains(r.String(), "MESSAGES 1") {
			t.Errorf("%s", r)
		}
	}
	want := map[string]string{"p1": "OK", "p2": "NO", "p3": "OK", "p4": "OK", "p5": "OK", "p6": "OK", "p7": "OK"}
	for tag, status := range want {
		if got[tag] != status {
			t.Errorf("%s: %s, want %s", tag, got[tag], status)
		}
	}
	big := imaptest.GeneratedMessage(3<<20, 7)
	if a := c.Literal("APPEND "+team+" (\\Seen) ", big, ""); !a.OK() {
		t.Fatalf("%s", a)
	}
	c.MustOK("CREATE here")
	c.MustOK("SELECT %s", team)
	c.MustOK("COPY 2 here")
	c.MustOK("SELECT here")
	if a := c.MustOK("FETCH 1 (FLAGS RFC822.SIZE)"); !has(a, fmt.Sprint(3<<20)) || !has(a, `\Seen`) {
		t.Errorf("%s", a)
	}
}

// Without MULTIAPPEND the messages are appended one after the other, and removed again if one of them can't be.
func TestSharedMailboxesWithoutMultiAppend(t *testing.T) {
	t.Parallel()
	quota := "plugin {\n  quota_rule = *:storage=300K\n}\n"
	if servers.DovecotRelease(t) == "2.4" {
		quota = "quota \"User quota\" {\n  quota_storage_size = 300K\n}\n"
	}
	l := newSharedLab(t, true, "", "imap_capability = IMAP4rev1 SASL-IR LITERAL+ ID ENABLE IDLE UNSELECT UIDPLUS CONDSTORE QRESYNC ACL NAMESPACE\n"+quota)
	own := l.direct(t, 1)
	own.MustOK("CREATE team")
	own.MustOK("SETACL team %s lrswipte", servers.User(2))
	for i := range 3 {
		own.Literal("APPEND team ", imaptest.GeneratedMessage(60000, uint64(i)), "")
	}
	c := l.client(t, 2)
	c.MustOK("CREATE copies")
	c.MustOK("SELECT others/%s/team", servers.User(1))
	if a := c.MustOK("COPY 1:3 copies"); !has(a, " 1,2,3 1,2,3]") {
		t.Errorf("%s", a)
	}
	if a := c.Cmd("MOVE 1:3 copies"); a.Tagged.Status() != "NO" || !has(a, "OVERQUOTA") || len(lines(a, "EXPUNGE")) > 0 {
		t.Errorf("%s", a)
	}
	if a := c.MustOK("STATUS copies (MESSAGES)"); !has(a, "MESSAGES 3") {
		t.Errorf("what was copied before isn't removed: %s", a)
	}
	if a := c.MustOK("NOOP"); len(lines(a, "EXPUNGE")) > 0 {
		t.Errorf("%s", a)
	}
	if a := c.MustOK("FETCH 1:* FLAGS"); len(lines(a, "FETCH")) != 3 {
		t.Errorf("%s", a)
	}
}

// restsAtHome waits until a session that idles in a shared mailbox has given up the connection to its own backend.
func (l *sharedLab) restsAtHome(t *testing.T) {
	t.Helper()
	l.proxy.eventually(t, "without the session's own connection", func() error {
		if n := l.proxy.metric(t, "imapproxy_backend_connections", `kind="warm"`); n == 0 {
			return errors.New("no connection is warm")
		}
		return nil
	})
}

// A session that has a shared mailbox selected isn't parked, and says why, but gives up the connection to its own backend while it idles; one that has left the mailbox is parked. Rights that are withdrawn while
// it is parked count with its next command.
func TestSharedMailboxIsNotParked(t *testing.T) {
	t.Parallel()
	l := newSharedLab(t, true, "")
	own := l.direct(t, 1)
	own.MustOK("CREATE team")
	own.MustOK("SETACL team %s lr", servers.User(2))
	c := l.client(t, 2)
	c.MustOK("SELECT others/%s/team", servers.User(1))
	done := c.Idle()
	sessions := func() string { return l.proxy.command(t, "sessions") }
	l.proxy.eventually(t, "the reason", func() error {
		if said := sessions(); !strings.Contains(said, "shared_mailbox") {
			return errors.New(said)
		}
		return nil
	})
	l.restsAtHome(t)
	own.Literal("APPEND team ", message("new"), "")
	c.Expect("* 1 EXISTS")
	done()
	if a := c.MustOK("UID FETCH 1:* FLAGS"); len(lines(a, "FETCH")) != 1 {
		t.Errorf("%s", a)
	}
	if a := c.MustOK("STATUS INBOX (MESSAGES)"); !has(a, "MESSAGES 0") {
		t.Errorf("%s", a)
	}
	c.MustOK("SELECT INBOX")
	c.Idle()
	l.proxy.eventually(t, "the session is parked", func() error {
		if said := sessions(); !strings.Contains(said, "parked") {
			return errors.New(said)
		}
		return nil
	})
	own.MustOK("DELETEACL team %s", servers.User(2))
	c.Write("DONE\r\nq1 STATUS others/" + servers.User(1) + "/team (MESSAGES)\r\nq2 SELECT others/" + servers.User(1) + "/team\r\nq3 NOOP")
	status := map[string]string{}
	for r := c.Read(); r.Tag() != "q3"; r = c.Read() {
		status[r.Tag()] = r.Status()
	}
	if status["q1"] != "NO" || status["q2"] != "NO" {
		t.Errorf("%v", status)
	}
}

// The owner idles, and is parked: they learn of what another user changes in their mailbox without the wait for the next look.
func TestSharedMailboxTellsItsOwner(t *testing.T) {
	t.Parallel()
	l := newSharedLab(t, true, "")
	owner := l.client(t, 1)
	owner.MustOK("CREATE team")
	owner.MustOK("SETACL team %s lrswipte", servers.User(2))
	owner.Literal("APPEND team ", message("direct"), "")
	owner.MustOK("SELECT team")
	owner.Idle()
	l.proxy.eventually(t, "the owner is parked", func() error {
		if said := l.proxy.command(t, "sessions"); !strings.Contains(said, "parked") {
			return errors.New(said)
		}
		return nil
	})
	c := l.client(t, 2)
	c.MustOK("SELECT others/%s/team", servers.User(1))
	c.MustOK(`STORE 1 +FLAGS (\Flagged)`)
	for r := behindAlive(owner); !strings.Contains(r.String(), `\Flagged`); r = behindAlive(owner) {
	}
}

// The owner's backend is killed: the session that has the mailbox selected ends, the other goes on.
func TestSharedMailboxIsLost(t *testing.T) {
	t.Parallel()
	l := newSharedLab(t, true, "")
	own := l.direct(t, 1)
	own.MustOK("CREATE team")
	own.MustOK("SETACL team %s lr", servers.User(2))
	selected, other := l.client(t, 2), l.client(t, 2)
	selected.MustOK("SELECT others/%s/team", servers.User(1))
	selected.Idle()
	other.MustOK("STATUS others/%s/team (MESSAGES)", servers.User(1))
	l.dovecot[0].Process.Stop()
	selected.Expect("* BYE [UNAVAILABLE] The mail server has closed the connection, please connect again")
	selected.ExpectEOF()
	l.proxy.eventually(t, "counted", func() error {
		if said := l.proxy.Output(); !strings.Contains(said, "reason=shared_lost") {
			return errors.New("no session has ended as shared_lost")
		}
		return nil
	})
	if a := other.Cmd("STATUS others/%s/team (MESSAGES)", servers.User(1)); a.Tagged.Status() != "NO" || !has(a, "UNAVAILABLE") {
		t.Errorf("%s", a)
	}
	other.MustOK("SELECT INBOX")
	l.dovecot[0].StartAgain(t)
	l.proxy.eventually(t, "the mailbox is back", func() error {
		if a := other.Cmd("SELECT others/%s/team", servers.User(1)); !a.OK() {
			return errors.New(a.String())
		}
		return nil
	})
}

// The user's own backend is restarted while they have a shared mailbox selected: their session goes on.
func TestSharedMailboxWhileTheOwnBackendRestarts(t *testing.T) {
	t.Parallel()
	l := newSharedLab(t, true, "")
	own := l.direct(t, 1)
	own.MustOK("CREATE team")
	own.MustOK("SETACL team %s lrs", servers.User(2))
	own.Literal("APPEND team ", message("direct"), "")
	c := l.client(t, 2)
	c.MustOK("SELECT INBOX")
	c.MustOK("SELECT others/%s/team", servers.User(1))
	l.dovecot[1].Process.Stop()
	c.MustOK("FETCH 1 FLAGS")
	l.dovecot[1].StartAgain(t)
	if a := c.MustOK("STATUS INBOX (MESSAGES)"); !has(a, "MESSAGES 0") {
		t.Errorf("%s", a)
	}
	l.dovecot[1].Process.Stop()
	l.dovecot[1].StartAgain(t)
	if a := c.Cmd("CREATE new"); a.Tagged.Status() != "NO" || !has(a, "UNAVAILABLE") { // it may have been done
		t.Errorf("%s", a)
	}
	if a := c.MustOK("UID FETCH 1 FLAGS"); len(lines(a, "FETCH")) != 1 {
		t.Errorf("%s", a)
	}
	c.MustOK("SELECT INBOX")
}

// The owner is moved to another backend: the sessions of others that use the owner's mailboxes end, so that the move isn't held up.
func TestSharedMailboxMoves(t *testing.T) {
	t.Parallel()
	k := newAgreeing(t, "20m")
	for _, id := range []string{"d1", "d2"} {
		k.mail = servers.DovecotMail(t) // one for each
		registerBackend(t, k.consul, id, k.addBackendWith(id, sharedExtra(t, true)))
	}
	owner, user := servers.User(1), servers.User(2)
	k.consul.PutKV(placementPrefix+owner, "d1")
	k.consul.PutKV(placementPrefix+user, "d2")
	for range 2 {
		k.proxies = append(k.proxies, k.startWith("", proxyOptions{
			Consul: k.consul.Address(), Storage: "separate", Routing: "flap_damp = \"0s\"\nfailover_after = \"1s\"", Further: sharedBlock(t),
		}))
	}
	k.agreed()
	own := login(t, k.proxies[0], owner)
	own.MustOK("CREATE team")
	own.MustOK("SETACL team %s lr", user)
	selects, asks := login(t, k.proxies[1], user), login(t, k.proxies[0], user)
	selects.MustOK("SELECT others/%s/team", owner)
	if a := asks.MustOK(`LIST "" *`); !has(a, "others/"+owner+"/team") {
		t.Errorf("%s", a)
	}
	if out := k.must(k.proxies[0], "move", owner, "d2"); !strings.Contains(out, owner+" goes to d2, for all proxies") {
		t.Errorf("move says\n%s", out)
	}
	selects.Expect("* BYE [UNAVAILABLE] {*}moved to another server{*}")
	if a := asks.Cmd("SELECT others/%s/team", owner); a.Tagged.Status() != "NO" { // it wasn't copied
		t.Errorf("%s", a)
	}
	asks.MustOK("SELECT INBOX")
}

// mutt opens a shared mailbox, copies all of it to one of its user's own, and deletes a message.
func TestMuttUsesSharedMailboxes(t *testing.T) {
	t.Parallel()
	l := newSharedLab(t, true, "")
	own := l.direct(t, 1)
	own.MustOK("CREATE team")
	own.MustOK("SETACL team %s lrswipte", servers.User(2))
	for i := range 3 {
		own.Literal("APPEND team ", imaptest.GeneratedMessage(5000, uint64(i)), "")
	}
	direct := l.direct(t, 2)
	direct.MustOK("CREATE copies")
	for _, name := range []string{"mutt", "neomutt"} {
		home := servers.Folder(t)
		rc := filepath.Join(home, "muttrc")
		writeFile(t, rc, fmt.Sprintf(`
set folder = "imap://%s@%s/"
set imap_pass = "%s"
set spoolfile = "=INBOX"
set ssl_starttls = no
set ssl_force_tls = no
set confirmappend = no
set delete = yes
set wait_key = no
set sleep_time = 0
set record = ""
set postponed = ""
set imap_check_subscribed = yes
push "<change-folder>=others/%s/team<enter><tag-pattern>~A<enter><tag-prefix><copy-message>=copies<enter><untag-pattern>~A<enter><first-entry><delete-message><sync-mailbox><quit>"
`, servers.User(2), l.proxy.Plain, servers.Password, servers.User(1)))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		cmd := exec.CommandContext(ctx, "script", "-qefc", "stty rows 24 cols 80; "+name+" -n -F "+rc, "/dev/null") // ncurses 6.5 refuses a terminal without a size
		cmd.Env = append(os.Environ(), "TERM=xterm", "HOME="+home)
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Errorf("%s: %v: %.2000q", name, err, out)
		}
	}
	if a := direct.MustOK("STATUS copies (MESSAGES)"); !has(a, "MESSAGES 5") { // 3 by the first, 2 by the second
		t.Errorf("%s", a)
	}
	if a := own.MustOK("STATUS team (MESSAGES)"); !has(a, "MESSAGES 1") {
		t.Errorf("%s", a)
	}
}

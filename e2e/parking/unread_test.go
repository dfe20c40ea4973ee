package parking

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/proxy"
)

// unreadLab is a lab in which a client that reads nothing isn't given up: the sessions' clock is
// an hour ahead, and so are their deadlines. What is told to others meanwhile was not told
// because those clients had gone.
func unreadLab(t *testing.T, s *site) *lab {
	return newLab(t, s, labOptions{
		quietAfter: 1, resumeWithin: time.Hour, resumeTry: time.Hour,
		now: func() time.Time { return time.Now().Add(time.Hour) },
	})
}

// keywords make a line of FETCH long.
var keywords = func() string {
	var words []string
	for i := range 12 {
		words = append(words, fmt.Sprintf("Keyword-%02d-%s", i, strings.Repeat("x", 35)))
	}
	return strings.Join(words, " ")
}()

// fill makes a mailbox with n messages and mod-sequences, which Dovecot's have from the first time that a session uses
// them, and says how to change the flags of all.
func (l *lab) fill(user, mailbox string, n int) (change func()) {
	l.t.Helper()
	d := l.writer(user, mailbox, 1)
	for have := 1; have < n; have *= 2 {
		d.MustOK("COPY 1:%d %s", min(have, n-have), mailbox)
		d.MustOK("NOOP")
	}
	c := l.login(user)
	c.MustOK("SELECT %s (CONDSTORE)", mailbox)
	c.MustOK("LOGOUT")
	return func() { d.MustOK("STORE 1:* +FLAGS.SILENT (%s)", keywords) }
}

// deaf is a client with a small receive buffer, parked in IDLE or, quiet, outside it. Every other
// one is under TLS.
func (l *lab) deaf(n int, user, mailbox string, idle bool) *imaptest.Client {
	l.t.Helper()
	addr, o := l.Plain, imaptest.DialOptions{Small: true}
	if n%2 == 1 {
		addr, o.TLS = l.TLS, l.cert.Client
	}
	c := imaptest.DialWith(l.t, addr, o)
	c.Login(user, servers.Password)
	c.MustOK("SELECT %s", mailbox)
	if idle {
		c.Write("i IDLE")
		c.Expect("+{*}")
	}
	l.parked(c)
	return c
}

// told waits until at least n of the clients have bytes that they don't read.
func (l *lab) told(clients []*imaptest.Client, n int) {
	l.t.Helper()
	must(l.t, eventually(l.t.Context(), "clients to be told", func() error {
		told := 0
		for _, c := range clients {
			if unread(l.t, c.Conn.Conn) > 0 {
				told++
			}
		}
		if told < n {
			return fmt.Errorf("%d are", told)
		}
		return nil
	}))
}

func unread(t testing.TB, c net.Conn) (n int) {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	must(t, err)
	var failed error
	must(t, raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }))
	must(t, failed)
	return n
}

// are says how many sessions of the user's are attached, parked ….
func (l *lab) are(user, attachment string) (n int) {
	page, _ := l.srv.Sessions(proxy.Filter{User: user})
	for _, s := range page {
		if s.Attachment == attachment {
			n++
		}
	}
	return n
}

// Forty clients of one user have missed changes of 2,048 messages' flags, say a command each,
// and read nothing of what they are told. Another user's parked session gets its answer.
func resumesWhileOthersReadNothing(t *testing.T, s *site) {
	l := unreadLab(t, s)
	many, other := l.newUser(), l.newUser()
	change := l.fill(many, "INBOX", 2048)
	var deaf []*imaptest.Client
	for n := range 40 {
		deaf = append(deaf, l.deaf(n, many, "INBOX", false))
	}
	l.fill(other, "INBOX", 2)
	c := l.login(other)
	c.MustOK("SELECT INBOX")
	l.parked(c)
	change()
	for _, d := range deaf {
		d.Write("x UID FETCH 1 FLAGS")
	}
	must(t, eventually(t.Context(), "all to want their connections back", func() error {
		if n := l.are(many, "resuming"); n < 40 {
			return fmt.Errorf("%d do", n)
		}
		return nil
	}))
	l.told(deaf, 8)
	c.MustOK("UID FETCH 1 FLAGS")
	if n := l.are(many, "resuming"); n != 40 {
		t.Errorf("%d of 40 clients that read nothing are still told", n)
	}
	for _, d := range deaf {
		must(t, d.Conn.Reset())
	}
	l.parked(c)
}

// Clients of one user are in IDLE, each in another mailbox, and read nothing of the changes that
// they are told. Another user's is told of new mail.
func notificationsWhileOthersReadNothing(t *testing.T, s *site) {
	const boxes = 40
	l := unreadLab(t, s)
	many, other := l.newUser(), l.newUser()
	var deaf []*imaptest.Client
	var changes []func()
	for i := range boxes {
		name := fmt.Sprint("box", i)
		changes = append(changes, l.fill(many, name, 256))
		deaf = append(deaf, l.deaf(i, many, name, true))
	}
	d := l.writer(other, "INBOX", 2)
	w := l.watch(other, "INBOX", d.Truth)
	w.BeginIdle()
	l.parked(w.Client)
	for _, change := range changes {
		change()
	}
	l.told(deaf, boxes)
	d.Append(1)
	w.Counts(3)
	if n := l.are(many, "parked"); n != boxes {
		t.Errorf("%d of %d clients that read nothing are still told", n, boxes)
	}
	w.EndIdle()
	w.Agrees(d.Truth)
	// One reads after all: it hears everything, and its DONE is answered behind that.
	late := deaf[0]
	late.Write("DONE")
	heard, tagged, err := late.Until("i")
	must(t, err)
	changed := 0
	for _, r := range heard {
		if r.Word(2) == "FETCH" {
			changed++
		}
	}
	if changed != 256 || tagged.Status() != "OK" {
		t.Errorf("%d of 256 changes, then %s", changed, tagged)
	}
	for _, c := range deaf {
		must(t, c.Conn.Reset())
	}
}

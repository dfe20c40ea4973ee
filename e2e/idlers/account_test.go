package idlers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/proxy"
)

// An account is a user whom a client serves through the proxy, and others at the
// server.
type account struct {
	*testing.T
	l     *lab
	user  string
	home  string // a folder for the client
	other *imaptest.Client
	rand  *rand.Rand
	count int      // messages made
	have  []string // the subjects that INBOX has to have, in order
	until time.Time
	round int

	isReady bool // for the restart of the lab's server
}

// seeded is how many messages an account begins with.
const seeded = 6

func newAccount(t *testing.T, l *lab, user string) *account {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("%s, seed %d", user, seed)
	a := &account{T: t, l: l, user: user, home: servers.Folder(t), other: imaptest.Dial(t, l.server.Addr), rand: rand.New(rand.NewPCG(seed, 0))}
	t.Cleanup(a.ready)
	a.other.Login(user, servers.Password)
	a.other.MustOK("SELECT INBOX")
	if minutes := os.Getenv("IDLER_MINUTES"); minutes != "" {
		n, err := strconv.ParseFloat(minutes, 64)
		must(t, err)
		a.until = time.Now().Add(time.Duration(n * float64(time.Minute)))
	}
	return a
}

// rounds has the client idle so often, or for IDLER_MINUTES with pauses, and then
// says whether it was parked.
func (a *account) rounds(round func()) {
	a.Helper()
	for a.round = 0; a.round < 3 || time.Now().Before(a.until); a.round++ {
		if !a.until.IsZero() {
			// Not for the test's sake: idle clients are idle.
			select {
			case <-time.After(rand.N(20 * time.Second)):
			case <-a.Context().Done():
				a.FailNow()
			}
		}
		if a.round == 1 {
			a.restarted()
		}
		round()
	}
	n := a.l.tally(a.user)
	a.Logf("%d rounds, %d sessions, %d parks, %d resumes", a.round, n.sessions, n.parks, n.resumes)
	// Fewer than rounds: one may begin before the client has heard of the last one's end.
	if n.parks < (a.round+1)/2 || n.resumes == 0 {
		a.Errorf("%d rounds, but %d parks and %d resumes", a.round, n.parks, n.resumes)
	}
}

// A mail is a kind of message, which its subject begins with, and its flags.
type mail struct{ kind, flags string }

// deliver has others put messages into INBOX, all at one time: many clients don't see
// what comes while they look at what came just before, and fetchmail gives up when
// Cyrus tells it of that.
func (a *account) deliver(mails ...mail) (subjects []string) {
	a.Helper()
	cmd := "APPEND INBOX"
	for _, m := range mails {
		a.count++
		subject := fmt.Sprintf("%s-%04d", m.kind, a.count)
		subjects = append(subjects, subject)
		text := message(subject)
		cmd += fmt.Sprintf(" (%s) {%d+}\r\n%s", m.flags, len(text), text)
	}
	a.other.MustOK("%s", cmd)
	a.have = append(a.have, subjects...)
	return subjects
}

// seed fills INBOX before the client comes.
func (a *account) seed(kind, flags string) {
	a.Helper()
	a.deliver(slices.Repeat([]mail{{kind, flags}}, seeded)...)
}

// any is one of INBOX's messages of this kind, chosen by chance.
func (a *account) any(kind string) (subject string) {
	a.Helper()
	var some []string
	for _, s := range a.have {
		if strings.HasPrefix(s, kind) {
			some = append(some, s)
		}
	}
	if len(some) == 0 {
		a.Fatalf("no %s in %v", kind, a.have)
	}
	return some[a.rand.IntN(len(some))]
}

// expunge has others remove a message.
func (a *account) expunge(subject string) {
	a.Helper()
	a.other.MustOK("NOOP")
	found, _ := a.other.MustOK("UID SEARCH HEADER SUBJECT %s", subject).Find("SEARCH")
	words := strings.Fields(found.Text)
	if len(words) != 3 {
		a.Fatalf("%s is there as %q", subject, found.Text)
	}
	a.other.MustOK(`UID STORE %s +FLAGS.SILENT (\Deleted)`, words[2])
	a.other.MustOK("UID EXPUNGE %s", words[2])
	a.gone(subject)
}

// gone says that a message has no place in INBOX any more.
func (a *account) gone(subject string) {
	a.have = slices.DeleteFunc(a.have, func(s string) bool { return s == subject })
}

// message is a small mail with a subject of its own.
func message(subject string) string {
	return strings.ReplaceAll(fmt.Sprintf(`From: Ann <ann@example.org>
To: Ben <ben@example.org>
Subject: %[1]s
Date: Mon, 02 Mar 2026 10:00:00 +0000
Message-ID: <%[1]s@example.org>

The text of %[1]s.
`, subject), "\n", "\r\n")
}

// subjects are those of a mailbox at the server, in order.
func (a *account) subjects(mailbox string) []string {
	a.Helper()
	if mailbox != "INBOX" {
		a.other.MustOK("EXAMINE %s", imaptest.Quote(mailbox))
		defer a.other.MustOK("SELECT INBOX")
	}
	a.other.MustOK("NOOP")
	var all []string
	for _, r := range a.other.MustOK("UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])").Untagged {
		if r.Word(2) == "FETCH" && len(r.Literals) == 1 {
			all = append(all, strings.TrimSpace(strings.TrimPrefix(string(r.Literals[0].Data), "Subject:")))
		}
	}
	return all
}

// settles waits until INBOX has exactly what it has to have.
func (a *account) settles(after string) {
	a.Helper()
	a.eventually("INBOX after "+after, func() error {
		if got := a.subjects("INBOX"); !slices.Equal(got, a.have) {
			return fmt.Errorf("INBOX has\n%v, want\n%v", got, a.have)
		}
		return nil
	})
}

// parked waits until one of the client's sessions is parked in IDLE, and all that
// it has said is answered.
func (a *account) parked() {
	a.Helper()
	a.eventually("a session of "+a.user+" to be parked", func() error {
		page, _ := a.l.srv.Sessions(proxy.Filter{User: a.user})
		idle := 0
		for _, s := range page {
			switch {
			case s.Idle && s.Attachment == "parked":
				idle++
			case s.InFlight > 0:
				return fmt.Errorf("%s, %s, %d commands in flight, idle %v, not parked for %q", s.Attachment, s.State, s.InFlight, s.Idle, s.NotParked)
			}
		}
		if idle == 0 {
			return fmt.Errorf("none of %d is: %+v", len(page), page)
		}
		a.l.look() // what follows may wake it before the next look
		return nil
	})
}

// eventually waits for what no event tells of.
func (a *account) eventually(what string, try func() error) {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			page, _ := a.l.srv.Sessions(proxy.Filter{User: a.user})
			a.Fatalf("waited %v for %s: %v\nwith %+v", patience, what, err, page)
		case <-tick.C:
		}
	}
}

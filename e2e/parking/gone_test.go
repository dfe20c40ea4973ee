package parking

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// What ends a parked session: its mailbox is deleted, renamed, made anew.
func aMailboxThatIsNoMoreEndsTheSession(t *testing.T, s *site) {
	whatHappens := map[string]func(l *lab, user string, d *imaptest.ModelWriter){
		"deleted": func(_ *lab, _ string, d *imaptest.ModelWriter) { d.MustOK("DELETE Box") },
		"renamed": func(_ *lab, _ string, d *imaptest.ModelWriter) { d.MustOK("RENAME Box Other") },
		"recreated": func(l *lab, user string, d *imaptest.ModelWriter) {
			d.MustOK("DELETE Box")
			waitNextSecond() // Cyrus makes UIDVALIDITY of the time
			l.makesAnew(user, d.Mailbox)
		},
	}
	for name, happens := range whatHappens {
		for _, when := range []string{"in IDLE", "at a command"} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				l := newLab(t, s, labOptions{sweep: time.Second})
				user := l.newUser()
				d := l.writer(user, "Box", 3)
				w := l.watch(user, "Box", d.Truth)
				w.BeginIdle()
				l.parked(w.Client)
				d.MustOK("UNSELECT")
				happens(l, user, d)
				if when == "in IDLE" {
					w.ExpectBye()
					return
				}
				w.Write("DONE", "x1 UID FETCH 1:* (FLAGS)")
				for { // whether DONE was still answered depends on what has been heard
					r := w.Read()
					if r.Status() == "BYE" {
						w.ExpectEOF()
						return
					}
					if r.Tag() == "x1" || r.Word(2) == "FETCH" {
						t.Fatalf("answered from another mailbox: %s", r)
					}
				}
			})
		}
	}
}

// makesAnew makes a mailbox anew that was deleted. Dovecot's maildir: who has it selected
// (here the watch, otherwise the client) may put a file into the folder that is being
// deleted. Then it is there again, has to be deleted again, and a connection that uses it is
// closed ("Mailbox was deleted under us"): each attempt has a connection of its own.
func (l *lab) makesAnew(user, mailbox string) {
	l.t.Helper()
	must(l.t, eventually(l.t.Context(), mailbox+" to be made anew", func() error {
		err := l.says(user, "CREATE "+mailbox, "APPEND "+mailbox+" {8+}\r\na: b\r\n\r\n")
		if err != nil {
			err = errors.Join(err, l.says(user, "DELETE "+mailbox))
		}
		return err
	}))
}

// says is a connection to the server that says these commands, up to one that isn't
// answered OK.
func (l *lab) says(user string, commands ...string) error {
	c, err := imaptest.DialConn(l.t.Context(), l.server.Addr, imaptest.DialOptions{Timeout: patience})
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Next(); err != nil { // the greeting
		return err
	}
	for i, command := range append([]string{"LOGIN " + user + " " + servers.Password}, commands...) {
		_, a, err := c.Command(fmt.Sprintf("s%d", i), command)
		if err == nil && a.Status() != "OK" {
			err = errors.New(a.Text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func waitNextSecond() {
	now := time.Now()
	time.Sleep(time.Until(now.Truncate(time.Second).Add(1100 * time.Millisecond))) // the clock is what is waited for
}

// Rights to a shared mailbox are taken away.
func aRightThatIsTakenAwayEndsTheSession(t *testing.T, s *site) {
	l := newLab(t, s, labOptions{sweep: time.Second, warmFor: -1})
	owner, sharer := l.newUser(), l.newUser()
	d := l.writer(owner, "INBOX", 2)
	d.MustOK("SETACL INBOX %s lrswipte", sharer)
	w := l.watch(sharer, `"`+s.inboxOf(owner)+`"`, d.Truth)
	w.BeginIdle()
	l.parked(w.Client)
	d.Append(1)
	for w.Model.Count() < 3 {
		w.Hear(w.Read())
	}
	d.MustOK("DELETEACL INBOX %s", sharer)
	if s.Kind == "dovecot" {
		// A connection of Dovecot's keeps the rights that it has found, the watch's
		// as any client's. A new one hasn't.
		w.EndIdle()
		w.Write("x1 UID FETCH 1:* (FLAGS)")
	}
	w.ExpectBye()
	l.ended("mailbox_gone")
}

// Write access is taken away, and reading is still allowed: a client that believes it
// may write is told to come again.
func writeAccessThatIsTakenAwayEndsTheSession(t *testing.T, s *site) {
	l := newLab(t, s, labOptions{warmFor: -1})
	owner, sharer := l.newUser(), l.newUser()
	d := l.writer(owner, "INBOX", 2)
	d.MustOK("SETACL INBOX %s lrswipte", sharer)
	w := l.watch(sharer, `"`+s.inboxOf(owner)+`"`, d.Truth)
	w.BeginIdle()
	l.parked(w.Client)
	d.MustOK("SETACL INBOX %s lr", sharer)
	w.EndIdle()
	w.Write("x1 UID FETCH 1:* (FLAGS)")
	w.ExpectBye()
	l.ended("mailbox_gone")
}

// inboxOf returns the name of a user's INBOX for other users.
func (s *site) inboxOf(owner string) string {
	if s.Kind == "dovecot" {
		return s.OtherUsers + owner + "/INBOX"
	}
	return s.OtherUsers + owner
}

package parking

import (
	"fmt"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// What a client marks with STORE .SILENT when it comes back isn't followed by the flags of
// before, neither those that it had been told nor those that others have set meanwhile.
func aSilentStoreIsNotFollowedByOlderFlags(t *testing.T, s *site) {
	for _, dialect := range []imaptest.ModelDialect{imaptest.ModelPlain, imaptest.ModelQResync} {
		for _, flagged := range []bool{false, true} {
			for _, verb := range []string{"UID STORE", "STORE"} {
				t.Run(fmt.Sprintf("%v %v %s", dialect, flagged, verb), func(t *testing.T) {
					t.Parallel()
					aSilentStore(t, s, dialect, flagged, verb)
				})
			}
		}
	}
}

func aSilentStore(t *testing.T, s *site, dialect imaptest.ModelDialect, flagged bool, verb string) {
	l := newLab(t, s, labOptions{})
	user := l.newUser()
	d := l.writer(user, "INBOX", 1)
	c := l.login(user)
	if dialect == imaptest.ModelQResync {
		c.MustOK("ENABLE QRESYNC")
	}
	c.MustOK("SELECT INBOX")
	d.Append(2)
	c.MustOK("NOOP")
	c.MustOK("UID FETCH 1:* (FLAGS)")
	c.Write("i IDLE")
	for r := c.Read(); r.Tag() != "+"; r = c.Read() {
	}
	l.parked(c)
	if flagged {
		// Nothing is heard of it before the resume.
		l.Once("SELECT \"INBOX\"", func() { d.MustOK(`UID STORE 2 +FLAGS.SILENT (\Flagged)`) })
	}
	c.Write("DONE")
	for r := c.Read(); r.Tag() != "i"; r = c.Read() {
	}
	a := c.MustOK(`%s 2 +FLAGS.SILENT (\Seen)`, verb)
	last := ""
	for _, r := range a.Untagged {
		if r.Word(1) == "2" && r.Word(2) == "FETCH" && strings.Contains(r.Text, "FLAGS (") {
			last = r.Text
			if dialect == imaptest.ModelPlain && !strings.Contains(last, `\Seen`) {
				t.Errorf("told %s in between", last)
			}
		}
	}
	if last != "" && !strings.Contains(last, `\Seen`) {
		t.Errorf("the client is left with %s", last)
	}
	if flagged && !strings.Contains(last, `\Flagged`) {
		a = c.MustOK("NOOP") // a backend may tell of it as of any change
		told := false
		for _, r := range a.Untagged {
			told = told || strings.Contains(r.Text, `\Flagged`) && strings.Contains(r.Text, `\Seen`)
		}
		if !told {
			t.Errorf("the client isn't told what another has set: %v", a.Untagged)
		}
	}
}

// A client that has marked many messages isn't told of its own marks when it comes back,
// but of what others have set meanwhile.
func ownMarksAreNotToldAgain(t *testing.T, s *site) {
	for _, dialect := range []imaptest.ModelDialect{imaptest.ModelPlain, imaptest.ModelQResync} {
		t.Run(fmt.Sprint(dialect), func(t *testing.T) {
			t.Parallel()
			if dialect == imaptest.ModelQResync && s.Kind == "cyrus" {
				return // each message has a mod-sequence of its own there: it is told of them once more
			}
			const many = 200
			l := newLab(t, s, labOptions{})
			user := l.newUser()
			d := l.writer(user, "INBOX", many)
			c := l.login(user)
			if dialect == imaptest.ModelQResync {
				c.MustOK("ENABLE QRESYNC")
			}
			c.MustOK("SELECT INBOX")
			c.MustOK("UID FETCH 1:* (FLAGS)")
			for first := 1; first <= many; first += 50 {
				c.MustOK(`UID STORE %d:%d +FLAGS.SILENT (\Seen)`, first, first+49)
			}
			c.Write("i IDLE")
			for r := c.Read(); r.Tag() != "+"; r = c.Read() {
			}
			l.parked(c)
			l.Once("SELECT \"INBOX\"", func() { d.MustOK(`UID STORE 7 +FLAGS.SILENT (\Flagged)`) })
			c.Write("DONE")
			for r := c.Read(); r.Tag() != "i"; r = c.Read() {
			}
			told := 0
			for _, command := range []string{"UID SEARCH ALL", "NOOP"} {
				for _, r := range c.MustOK("%s", command).Untagged {
					if r.Word(2) == "FETCH" {
						told++
						if r.Word(1) != "7" || !strings.Contains(r.Text, `\Flagged`) || !strings.Contains(r.Text, `\Seen`) {
							t.Errorf("told %s", r)
						}
					}
				}
			}
			if told == 0 || told > 2 {
				t.Errorf("told %d times of flags", told)
			}
		})
	}
}

package parking

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// A command by number that comes in one write with DONE, NOOP or CHECK was written before their
// answer was read: its number means the message of before, though another was expunged
// in the meantime, and none is taken away before it is answered.
func commandsThatComeTogether(t *testing.T, s *site) {
	for _, first := range []string{"DONE", "n NOOP", "n CHECK"} {
		for _, command := range []string{`STORE 4 +FLAGS (\Flagged)`, "FETCH 4 (UID)", "COPY 4 Other", "MOVE 4 Other"} {
			if first == "n CHECK" && !strings.HasPrefix(command, "STORE") {
				continue
			}
			for _, tls := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, TLS %v", first, command, tls), func(t *testing.T) {
					t.Parallel()
					comeTogether(t, s, first, command, tls)
				})
			}
		}
	}
}

func comeTogether(t *testing.T, s *site, first, command string, tls bool) {
	l := newLab(t, s, labOptions{watch: "poll", quietAfter: time.Nanosecond}) // in IDLE it hears of nothing
	user := l.newUser()
	d := l.writer(user, "INBOX", 6)
	d.MustOK("CREATE Other")
	w := l.watchBy(tls, user, "INBOX", d.Truth)
	w.Say("UID FETCH 1:* (FLAGS)")
	tag := "n"
	if first == "DONE" {
		tag = w.BeginIdle()
	}
	l.parked(w.Client)
	d.Expunge(2) // the fourth message, of UID 4, is the third now
	w.Model.Begin("STORE")
	must(t, w.SendRaw(first+"\r\nx "+command+"\r\n"))
	w.UntilOK(tag)
	verb, _, _ := strings.Cut(command, " ")
	w.Model.Begin(verb)
	heard := w.UntilOK("x")
	switch verb {
	case "STORE":
		d.Truth.Store(4, `\Flagged`)
	case "FETCH":
		if !slices.ContainsFunc(heard, func(r imaptest.Response) bool { return strings.HasPrefix(r.Text, "* 4 FETCH (UID 4") }) {
			t.Errorf("FETCH 4 finds %v", heard)
		}
	case "MOVE":
		d.Truth.Expunge(4)
		fallthrough
	case "COPY":
		a := l.direct(user).MustOK("STATUS Other (MESSAGES)")
		if !strings.Contains(fmt.Sprint(a.Untagged), "MESSAGES 1") {
			t.Errorf("%v", a.Untagged)
		}
		d.MustOK("NOOP")
		if a := d.MustOK("UID SEARCH UID 4"); strings.Contains(fmt.Sprint(a.Untagged), "4") == (verb == "MOVE") {
			t.Errorf("behind %s: %v", verb, a.Untagged)
		}
	}
	w.Agrees(d.Truth)
	w.MustOK("LOGOUT")
}

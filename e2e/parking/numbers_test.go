package parking

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// numbers are those of an untagged SEARCH, SORT or THREAD.
func numbers(heard []imaptest.Response, name string) []int {
	var out []int
	for _, r := range heard {
		if r.Word(1) != name {
			continue
		}
		for _, f := range strings.FieldsFunc(r.Text, func(c rune) bool { return strings.ContainsRune(" ()*", c) })[1:] {
			if n, err := strconv.Atoi(f); err == nil {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out
}

// Transcript 5: three are gone and two are new while the client is parked, and it hasn't been told.
// Whatever it says by number means what it counted; what it says by UID in the same breath sees the
// same messages.
func numbersOfBeforeThePark(t *testing.T, s *site) {
	commands := []string{
		"FETCH 1:* (UID)", "SEARCH ALL", "STORE 5 +FLAGS (\\Flagged)", "COPY 4:* Other", "SORT (ARRIVAL) UTF-8 ALL",
		"THREAD REFERENCES UTF-8 ALL", "UID FETCH 1:* (FLAGS)", "NOOP", "MOVE 5 Other",
		"COPY 3 Other", "UID STORE 5 +FLAGS (\\Flagged)", "UID SEARCH 4:5",
	}
	for _, command := range commands {
		for _, how := range []string{"in IDLE", "quiet and pipelined"} {
			t.Run(command+" "+how, func(t *testing.T) {
				t.Parallel()
				numbersOfBefore(t, s, command, how == "in IDLE")
			})
		}
	}
}

func numbersOfBefore(t *testing.T, s *site, command string, idle bool) {
	l := newLab(t, s, labOptions{quietAfter: time.Nanosecond})
	user := l.newUser()
	d := l.writer(user, "INBOX", 6)
	d.MustOK("CREATE Other")
	w := l.watch(user, "INBOX", d.Truth)
	w.Say("UID FETCH 1:* (FLAGS)") // a client that uses numbers is parked in IDLE alone
	if idle {
		w.BeginIdle()
	}
	l.parked(w.Client)
	// The change comes with the resume: nothing was heard of it before.
	happened := l.Once("SELECT \"INBOX\"", func() {
		d.Expunge(1, 3, 6) // the client's 1, 3 and 6
		d.Append(2)        // 7 and 8
	})
	lines := []string{"n1 " + command}
	if idle {
		w.EndIdle()
	} else {
		lines = append(lines, "n2 UID FETCH 1:* (FLAGS)", "n3 NOOP")
	}
	words := strings.Fields(command)
	name := words[0]
	if name == "UID" {
		name += " " + words[1]
	}
	w.Model.Begin(name)
	w.Write(lines...)
	heard, tagged := w.HearUntil("n1")
	if name != "NOOP" || w.Heard["EXPUNGE"] > 0 {
		select {
		case <-happened:
		default:
			t.Fatal("it wasn't resumed by SELECT")
		}
	}
	// Where both may be told, EXPUNGE comes first: mutt takes EXISTS for the number
	// of the last message, whatever EXPUNGE says behind it.
	exists := slices.IndexFunc(heard, func(r imaptest.Response) bool { return r.Word(2) == "EXISTS" })
	if name != "MOVE" && exists >= 0 && slices.ContainsFunc(heard[exists:], func(r imaptest.Response) bool { return r.Word(2) == "EXPUNGE" }) {
		t.Errorf("EXPUNGE after EXISTS: %v", heard)
	}
	switch name {
	case "STORE", "UID STORE":
		if tagged.Status() == "OK" {
			d.Truth.Store(5, `\Flagged`)
		} else {
			t.Errorf("%s", tagged)
		}
	case "UID SEARCH":
		if got := numbers(heard, "SEARCH"); !slices.Equal(got, []int{4, 5}) {
			t.Errorf("UID SEARCH 4:5 says %v", got)
		}
	case "SEARCH", "SORT", "THREAD":
		for _, n := range numbers(heard, name) {
			if n < 1 || n > w.Model.Count() {
				t.Errorf("%s says %d of %d", name, n, w.Model.Count())
			}
			if slices.Contains([]int{1, 3, 6}, n) {
				t.Errorf("%s says %d, which is gone", name, n)
			}
		}
	case "COPY", "MOVE":
		want := "MESSAGES 2" // 4 and 5, of 4 to 6: what the client counted, without the one that is gone
		if name == "MOVE" {
			want = "MESSAGES 1"
		}
		a := l.direct(user).MustOK("STATUS Other (MESSAGES)")
		switch {
		case command == "COPY 3 Other" && tagged.Status() != "NO":
			t.Errorf("%s: there is nothing to copy", tagged)
		case tagged.Status() != "OK" && strings.Contains(fmt.Sprint(a.Untagged), "MESSAGES 0"):
		case !strings.Contains(fmt.Sprint(a.Untagged), want):
			t.Errorf("%s: %v", tagged, a.Untagged)
		case name == "MOVE":
			d.Truth.Expunge(5)
		}
	}
	if !idle {
		w.Model.Begin("UID FETCH")
		w.UntilOK("n2")
		w.Model.Begin("NOOP")
		w.UntilOK("n3")
	}
	w.Agrees(d.Truth)
	w.MustOK("LOGOUT")
}

// Transcript 2: the client is quiet, a hidden FETCH is under way, and it STOREs
// by number while something else is expunged: the right message is marked.
func storeByNumberDuringAQuietPark(t *testing.T, s *site) {
	for _, step := range []string{"FETCH 1:* (UID)", "UNSELECT"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, labOptions{quietAfter: 1})
			user := l.newUser()
			d := l.writer(user, "INBOX", 6)
			happened := l.Once(step, func() { // the hidden one
				d.Expunge(2)
			})
			w := l.watch(user, "INBOX", d.Truth)
			// It works by UIDs so far, and knows them.
			l.happens(happened, "the step")
			uid := w.Model.UID(4)
			w.Model.Begin("STORE")
			w.Write(`x1 STORE 4 +FLAGS (\Flagged)`)
			w.UntilOK("x1")
			d.Truth.Store(uid, `\Flagged`)
			l.OnUp(nil)
			w.Agrees(d.Truth)
			w.MustOK("LOGOUT")
		})
	}
}

//go:build parking

package parking

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

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

// Transcript 5: three are gone and two are new while the client is parked, and
// nobody has told it so. Whatever it says by number means what it counted.
func TestNumbersOfBeforeThePark(t *testing.T) {
	commands := []string{
		"FETCH 1:* (UID)", "SEARCH ALL", "STORE 5 +FLAGS (\\Flagged)", "COPY 4:* Other", "SORT (ARRIVAL) UTF-8 ALL",
		"THREAD REFERENCES UTF-8 ALL", "UID FETCH 1:* (FLAGS)", "NOOP", "MOVE 5 Other",
		"COPY 3 Other", "UID STORE 5 +FLAGS (\\Flagged)", "UID SEARCH 4:5",
	}
	onEach(t, "-idle", labOptions{}, func(t *testing.T, l *lab) {
		for _, command := range commands {
			t.Run(command, func(t *testing.T) {
				l := l.with(t)
				l.onLine(nil)
				user := newUser()
				d := l.writer(user, "INBOX", 6)
				d.MustOK("CREATE Other")
				w := l.watch(user, "INBOX", d.truth)
				w.say("FETCH 1:* (UID FLAGS)")
				w.idle()
				l.parked(w.Client)
				// The change comes with the resume: nothing was heard of it before.
				happened := l.once("SELECT \"INBOX\"", func() {
					d.expunge(1, 3, 6) // the client's 1, 3 and 6
					d.append(2)        // 7 and 8
				})
				w.done()
				words := strings.Fields(command)
				name := words[0]
				if name == "UID" {
					name += " " + words[1]
				}
				w.model.Begin(name)
				w.Write("n1 " + command)
				var heard []imaptest.Response
				var tagged imaptest.Response
				for {
					r := w.Read()
					if r.Tag() == "n1" {
						tagged = r
						break
					}
					w.hear(r)
					heard = append(heard, r)
				}
				w.model.Begin("")
				t.Logf("%v %s", heard, tagged)
				if name != "NOOP" || w.heard["EXPUNGE"] > 0 {
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
					t.Errorf("EXPUNGE after EXISTS")
				}
				switch name {
				case "STORE", "UID STORE":
					if tagged.Status() == "OK" {
						d.truth.Store(5, `\Flagged`)
					} else {
						t.Errorf("%s", tagged)
					}
				case "UID SEARCH":
					if got := numbers(heard, "SEARCH"); !slices.Equal(got, []int{4, 5}) {
						t.Errorf("UID SEARCH 4:5 says %v", got)
					}
				case "SEARCH", "SORT", "THREAD":
					for _, n := range numbers(heard, name) {
						if n < 1 || n > w.model.Count() {
							t.Errorf("%s says %d of %d", name, n, w.model.Count())
						}
						if slices.Contains([]int{1, 3, 6}, n) {
							t.Errorf("%s says %d, which is gone", name, n)
						}
					}
				case "COPY", "MOVE":
					a := l.direct(user).MustOK("STATUS Other (MESSAGES)")
					t.Logf("Other: %v", a.Untagged)
					if tagged.Status() == "OK" && strings.Contains(fmt.Sprint(a.Untagged), "MESSAGES 0") || command == "COPY 3 Other" && tagged.Status() != "NO" {
						t.Errorf("%s: nothing was copied", tagged)
					}
					if name == "MOVE" && tagged.Status() == "OK" {
						d.truth.Expunge(5)
					}
				}
				w.agrees(d.truth)
				w.MustOK("LOGOUT")
			})
		}
	})
}

// Transcript 2: the client is quiet, a hidden FETCH is under way, and it STOREs
// by number while something else is expunged: the right message is marked.
func TestStoreByNumberDuringAQuietPark(t *testing.T) {
	onEach(t, "-idle", labOptions{quietAfter: 1}, func(t *testing.T, l *lab) {
		for _, step := range []string{"FETCH 1:* (UID)", "UNSELECT"} {
			t.Run(step, func(t *testing.T) {
				l := l.with(t)
				l.onLine(nil)
				user := newUser()
				d := l.writer(user, "INBOX", 6)
				happened := l.once(step, func() { // the hidden one
					d.expunge(2)
				})
				w := l.watch(user, "INBOX", d.truth)
				// It works by UIDs so far, and knows them.
				select {
				case <-happened:
				case <-t.Context().Done():
				}
				uid := w.model.UID(4)
				w.model.Begin("STORE")
				w.Write(`x1 STORE 4 +FLAGS (\Flagged)`)
				w.until("x1")
				d.truth.Store(uid, `\Flagged`)
				l.onLine(nil)
				w.agrees(d.truth)
				w.MustOK("LOGOUT")
			})
		}
	})
}

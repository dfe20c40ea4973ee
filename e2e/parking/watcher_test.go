package parking

import (
	"fmt"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// A watcher is a client that believes what it is told, and objects to what it may
// not be told.
type watcher struct {
	*imaptest.Client
	t     testing.TB
	model *imaptest.ModelClient
	tags  int
	heard map[string]int // EXISTS, EXPUNGE … so far
	// highest is the HIGHESTMODSEQ that a client of QRESYNC would cache.
	highest uint64
}

// watch logs in through the proxy and selects a mailbox that has the messages
// that truth has.
func (l *lab) watch(user, mailbox string, truth *imaptest.ModelMailbox) *watcher {
	l.t.Helper()
	w := &watcher{Client: l.login(user), t: l.t, model: imaptest.NewModelClient(imaptest.ModelPlain, truth), heard: map[string]int{}}
	w.MustOK("SELECT %s", mailbox)
	return w
}

func (w *watcher) hear(r imaptest.Response) {
	w.t.Helper()
	w.heard[r.Word(2)]++
	w.cache(r)
	if r.Word(1) == "VANISHED" {
		w.heard["VANISHED"]++
	}
	if err := w.model.Response(r); err != nil {
		w.t.Fatalf("%s: %v", r, err)
	}
}

// say is a command, whose answer has to be OK.
func (w *watcher) say(format string, args ...any) []imaptest.Response {
	w.t.Helper()
	line := fmt.Sprintf(format, args...)
	verb, rest, _ := strings.Cut(line, " ")
	if verb == "UID" {
		sub, _, _ := strings.Cut(rest, " ")
		verb += " " + sub
	}
	w.tags++
	tag := fmt.Sprintf("w%d", w.tags)
	w.model.Begin(verb)
	w.Write(tag + " " + line)
	return w.until(tag)
}

// until reads up to a tagged OK.
func (w *watcher) until(tag string) (heard []imaptest.Response) {
	w.t.Helper()
	for {
		r := w.Read()
		if r.Tag() == tag {
			w.cache(r)
			if r.Status() != "OK" {
				w.t.Fatalf("%s (after %v)", r, heard)
			}
			w.model.Begin("")
			return heard
		}
		heard = append(heard, r)
		w.hear(r)
	}
}

// idle begins IDLE.
func (w *watcher) idle() {
	w.t.Helper()
	w.tags++
	w.model.Begin("IDLE")
	w.Write(fmt.Sprintf("w%d IDLE", w.tags))
	for r := w.Read(); r.Tag() != "+"; r = w.Read() {
		w.hear(r)
	}
}

// done ends IDLE.
func (w *watcher) done() {
	w.t.Helper()
	w.Write("DONE")
	w.until(fmt.Sprintf("w%d", w.tags))
}

// told reads until so many responses of a kind have come since the beginning.
func (w *watcher) told(name string, n int) {
	w.t.Helper()
	for w.heard[name] < n {
		w.hear(w.Read())
	}
}

// agrees has the client find out all UIDs and flags, and compares with the truth.
// The first command goes to the backend, and EXPUNGE is allowed in it (RFC 9051
// §7.5.1): a parked client's NOOP may be answered before anybody has heard.
func (w *watcher) agrees(truth *imaptest.ModelMailbox) {
	w.t.Helper()
	w.say("UID SEARCH ALL")
	w.say("NOOP")
	w.say("UID FETCH 1:* (UID FLAGS)")
	if err := w.model.Converged(truth); err != nil {
		w.t.Fatal(err)
	}
}

// A writer changes a mailbox, directly at the server, and keeps the truth.
type writer struct {
	*imaptest.Client
	mailbox string
	truth   *imaptest.ModelMailbox
	n       uint64
}

// writer makes a mailbox with n messages.
func (l *lab) writer(user, mailbox string, n int) *writer {
	l.t.Helper()
	w := &writer{Client: l.direct(user), mailbox: mailbox, truth: imaptest.NewModelMailbox(1)}
	if mailbox != "INBOX" {
		w.MustOK("CREATE %s", mailbox)
	}
	w.append(n)
	w.MustOK("SELECT %s", mailbox)
	return w
}

func (w *writer) append(n int) {
	for range n {
		w.n++
		if a := w.Literal("APPEND "+w.mailbox+" ", imaptest.GeneratedMessage(200, w.n), ""); !a.OK() {
			panic(a.String())
		}
		w.truth.Append()
	}
}

func (w *writer) expunge(uids ...uint32) {
	for _, uid := range uids {
		w.MustOK(`UID STORE %d +FLAGS.SILENT (\Deleted)`, uid)
	}
	w.MustOK("EXPUNGE")
	w.truth.Expunge(uids...)
}

func (w *writer) flag(uid uint32, flags ...string) {
	w.MustOK(`UID STORE %d FLAGS.SILENT (%s)`, uid, strings.Join(flags, " "))
	w.truth.Store(uid, flags...)
}

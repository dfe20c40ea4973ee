package imaptest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A ModelWatcher is a client that believes what it is told of its mailbox
// (ModelClient), and fails the test for what it may not be told.
type ModelWatcher struct {
	*Client
	Model *ModelClient
	Heard map[string]int // EXISTS, EXPUNGE … so far
	// Highest is the HIGHESTMODSEQ that a client of QRESYNC would cache.
	Highest uint64

	tags int
}

// NewModelWatcher makes one of a client that is logged in, has enabled what the
// dialect says, and is about to select a mailbox that has the messages that truth has.
func NewModelWatcher(c *Client, dialect ModelDialect, truth *ModelMailbox) *ModelWatcher {
	return &ModelWatcher{Client: c, Model: NewModelClient(dialect, truth), Heard: map[string]int{}}
}

// Hear hears one response that is no tagged one.
func (w *ModelWatcher) Hear(r Response) {
	w.t.Helper()
	w.Heard[r.Word(2)]++
	if r.Word(1) == "VANISHED" {
		w.Heard["VANISHED"]++
	}
	w.Cache(r)
	if err := w.Model.Response(r); err != nil {
		w.t.Fatalf("%s: %v", r, err)
	}
}

// Cache keeps a response's HIGHESTMODSEQ.
func (w *ModelWatcher) Cache(r Response) {
	w.t.Helper()
	if v, ok := strings.CutPrefix(r.Code(), "HIGHESTMODSEQ "); ok {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			w.t.Fatal(err)
		}
		w.Highest = max(w.Highest, n)
	}
}

// Say is a command, whose answer has to be OK.
func (w *ModelWatcher) Say(format string, args ...any) []Response {
	w.t.Helper()
	line := fmt.Sprintf(format, args...)
	w.tags++
	tag := fmt.Sprintf("w%d", w.tags)
	w.Model.Begin(verbOf(line))
	w.Write(tag + " " + line)
	return w.UntilOK(tag)
}

// verbOf is a command's name as a ModelClient knows it.
func verbOf(line string) string {
	verb, rest, _ := strings.Cut(line, " ")
	if verb == "UID" {
		sub, _, _ := strings.Cut(rest, " ")
		verb += " " + sub
	}
	return verb
}

// UntilOK reads up to a tagged OK.
func (w *ModelWatcher) UntilOK(tag string) []Response {
	w.t.Helper()
	heard, tagged := w.HearUntil(tag)
	if tagged.Status() != "OK" {
		w.t.Fatalf("%s (after %v)", tagged, heard)
	}
	return heard
}

// HearUntil reads up to a tagged answer, whatever it is.
func (w *ModelWatcher) HearUntil(tag string) (heard []Response, tagged Response) {
	w.t.Helper()
	for {
		r := w.Read()
		if r.Tag() == tag {
			w.Cache(r)
			w.Model.Begin("")
			return heard, r
		}
		w.Hear(r)
		heard = append(heard, r)
	}
}

// BeginIdle begins IDLE and returns its tag.
func (w *ModelWatcher) BeginIdle() (tag string) {
	w.t.Helper()
	w.tags++
	tag = fmt.Sprintf("w%d", w.tags)
	w.Model.Begin("IDLE")
	w.Write(tag + " IDLE")
	for r := w.Read(); r.Tag() != "+"; r = w.Read() {
		w.Hear(r)
	}
	return tag
}

// EndIdle ends it.
func (w *ModelWatcher) EndIdle() {
	w.t.Helper()
	w.Write("DONE")
	w.UntilOK(fmt.Sprintf("w%d", w.tags))
}

// Told reads until so many responses of a kind have come since the beginning.
func (w *ModelWatcher) Told(name string, n int) {
	w.t.Helper()
	for w.Heard[name] < n {
		w.Hear(w.Read())
	}
}

// Counts reads until so many messages are there.
func (w *ModelWatcher) Counts(n int) {
	w.t.Helper()
	for w.Model.Count() != n {
		w.Hear(w.Read())
	}
}

// Agrees has the client find out all UIDs and flags, and compares with the truth.
// The first command goes to the backend, and EXPUNGE is allowed in it (RFC 9051
// §7.5.1): a parked client's NOOP may be answered before the proxy has heard of a change.
func (w *ModelWatcher) Agrees(truth *ModelMailbox) {
	w.t.Helper()
	w.Say("UID SEARCH ALL")
	w.Say("NOOP")
	w.Say("UID FETCH 1:* (UID FLAGS)")
	if err := w.Model.Converged(truth); err != nil {
		w.t.Fatal(err)
	}
}

// ExpectBye reads until BYE and the end of the connection. The commands with these tags may be
// answered before.
func (w *ModelWatcher) ExpectBye(answered ...string) Response {
	w.t.Helper()
	for {
		r := w.Read()
		if r.Tag() == "*" && r.Status() == "BYE" {
			w.ExpectEOF()
			return r
		}
		if r.Tag() != "*" && !slices.Contains(answered, r.Tag()) {
			w.t.Fatalf("want BYE, got %s", r)
		}
	}
}

// A ModelWriter changes a mailbox of a server's, and keeps the truth.
type ModelWriter struct {
	*Client
	Mailbox string
	Truth   *ModelMailbox
	n       uint64
}

// NewModelWriter makes a mailbox, but for INBOX, with n messages, and selects it.
func NewModelWriter(c *Client, mailbox string, n int) *ModelWriter {
	c.t.Helper()
	w := &ModelWriter{Client: c, Mailbox: mailbox, Truth: NewModelMailbox(1)}
	if mailbox != "INBOX" {
		w.MustOK("CREATE %s", mailbox)
	}
	w.Append(n)
	w.MustOK("SELECT %s", mailbox)
	return w
}

// Append appends n messages.
func (w *ModelWriter) Append(n int) {
	w.t.Helper()
	for range n {
		w.n++
		if a := w.Literal("APPEND "+w.Mailbox+" ", GeneratedMessage(200, w.n), ""); !a.OK() {
			w.t.Fatal(a)
		}
		w.Truth.Append()
	}
}

// Expunge removes messages.
func (w *ModelWriter) Expunge(uids ...uint32) {
	w.t.Helper()
	for _, uid := range uids {
		w.MustOK(`UID STORE %d +FLAGS.SILENT (\Deleted)`, uid)
	}
	w.MustOK("EXPUNGE")
	w.Truth.Expunge(uids...)
}

// Flag gives a message exactly these flags.
func (w *ModelWriter) Flag(uid uint32, flags ...string) {
	w.t.Helper()
	w.MustOK(`UID STORE %d FLAGS.SILENT (%s)`, uid, strings.Join(flags, " "))
	w.Truth.Store(uid, flags...)
}

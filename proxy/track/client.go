package track

import (
	"bytes"
	"slices"
	"strings"
	"unique"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// enableable lists the extensions that the proxy can enable again on the connection of a resume.
var enableable = []string{"CONDSTORE", "QRESYNC", "UTF8=ACCEPT", "IMAP4REV2", "UIDONLY"}

// Client is what a client has been told of its session, as far as a view needs it. It is followed while the
// session is attached, and guarded by InFlight.mu.
type Client struct {
	Enabled []string // enabled extensions, in upper case

	Mailbox Mailbox
	// before is the mailbox that was selected before the SELECT in progress; it is valid if hasBefore is set.
	// A SELECT that is answered BAD changes nothing, unless the backend has sent the code CLOSED. The memory
	// of before is reused.
	before            *Mailbox
	hasBefore, closed bool

	Dialect view.Dialect
	utf8    bool    // mailbox names are UTF-8 (RFC 6855, RFC 9051 §5.1)
	UIDOnly bool    // messages have no sequence numbers; responses name them by UID (RFC 9586)
	doubt   Blocker // why the session can't be parked; it holds for the session's life
	// compared: the backend has no QRESYNC, so a resync compares flags.
	compared bool
}

// Mailbox is what the client was told of its selected mailbox.
type Mailbox struct {
	began     uint64 // the number of the command that selected it
	Name      string // canonical; "": no mailbox is selected, or its name can't be used to select it again
	ReadOnly  bool
	Exists    uint32
	Validity  uint32 // this and the next two are from the answer to SELECT
	Next      uint32
	ModSeq    uint64
	Flags     view.Flags
	Permanent view.Flags
	byNumber  bool    // the client used message numbers
	noModSeq  bool    // the mailbox has no mod-sequences
	heard     bool    // the backend has sent data about a mailbox since the SELECT
	opened    bool    // its SELECT was answered OK
	back      bool    // it is selected again because a later SELECT was answered BAD
	doubt     Blocker // why the session can't be parked while this mailbox is selected
	known     *known
	// tally is what came and went since it was selected; nil: nothing yet, while it is being selected, and otherwise
	// that isn't known (Counted).
	tally *view.Tally
}

// tallied returns the tally, which it makes if there is none. That of a mailbox that is open already says that it isn't known what the
// client counts, until Update or Counts says it.
func (b *Mailbox) tallied() *view.Tally {
	if b.tally == nil {
		b.tally = new(view.Tally)
		if b.opened {
			b.tally.Lose()
		}
	}
	return b.tally
}

// Counted says whether the tally has what the client counts. It hasn't between Trim and Update or Counts.
func (b *Mailbox) Counted() bool { return b.tally != nil }

// Update records what the client was told while the session was parked.
func (b *Mailbox) Update(v *view.View) {
	b.Exists, b.Flags, b.ModSeq, b.known = v.UIDs.Count(), v.Flags, v.ModSeq, knownOf(v.Known, v.UIDs)
	b.Next = v.Next()
	b.tallied().BeginWith(v.UIDs)
}

// Counts notes that the client counts so many messages by now, of which these are known, the others behind them.
func (b *Mailbox) Counts(known view.UIDs, count uint32) {
	b.Exists, b.Next = count, max(b.Next, (&view.View{UIDs: known}).Next())
	b.tallied().BeginWith(known)
	b.tallied().Exists(count)
}

// KnownFlags returns the flags of these messages that the client knows, for a view.
func (t *Client) KnownFlags(messages view.UIDs) *view.Known {
	return t.Mailbox.known.frozen(messages, t.Dialect)
}

// ForgetFlags forgets which flags the client knows.
func (t *Client) ForgetFlags() { t.Mailbox.known = nil }

// fetched follows a FETCH response: its UID and, if a resync uses QRESYNC and a mailbox with a known name is selected,
// its flags.
func (t *Client) fetched(f *FetchResponse) {
	t.Mailbox.tallied().Named(f.number, f.uid)
	if t.compared || t.Mailbox.Name == "" {
		return
	}
	if t.Mailbox.known == nil {
		t.Mailbox.known = &known{}
	}
	t.Mailbox.known.fetched(f, t.Mailbox.ModSeq)
}

// stores follows a STORE that begins.
func (t *Client) stores(seq uint64, h wire.CommandHead, whole bool) {
	if t.compared || t.Mailbox.Name == "" {
		return
	}
	if t.Mailbox.known == nil {
		t.Mailbox.known = &known{}
	}
	t.Mailbox.known.begins(seq, h, whole)
}

// FollowedWhole says whether a response has to be whole when it is followed, however long it is.
func FollowedWhole(h wire.ResponseHead) bool {
	return h.Status == wire.NoStatus && (wire.Is(h.Name, "VANISHED") || wire.Is(h.Name, "FLAGS"))
}

// untagged follows an untagged response. whole: h has the whole response.
func (t *Client) untagged(h wire.ResponseHead, whole bool) {
	if h.Status != wire.NoStatus {
		if h.Status == wire.OK {
			t.code(h.Rest)
		}
		return
	}
	switch {
	case wire.Is(h.Name, "EXISTS"):
		t.Mailbox.Exists, t.Mailbox.heard = h.Number, true
		t.Mailbox.tallied().Exists(h.Number)
	case wire.Is(h.Name, "EXPUNGE"):
		t.Mailbox.heard = true
		if t.Mailbox.Exists > 0 {
			t.Mailbox.Exists--
		}
		t.Mailbox.tallied().Expunged(h.Number)
		if t.Mailbox.known != nil {
			t.Mailbox.known.expunged(h.Number)
		}
	case wire.Is(h.Name, "VANISHED"):
		t.Mailbox.heard = true
		t.vanished(h.Rest, whole)
	case wire.Is(h.Name, "FLAGS"):
		t.Mailbox.Flags, t.Mailbox.heard = t.flagList(h.Rest, whole), true
	case wire.Is(h.Name, "ENABLED"):
		t.enables(string(h.Rest))
	}
}

func (t *Client) flagList(b []byte, whole bool) view.Flags {
	f, err := view.ParseFlags(b)
	if err != nil || !whole {
		t.Mailbox.doubt = BlockerMailbox
	}
	return unique.Make(f).Value() // most mailboxes have the same flags
}

// vanished follows VANISHED (RFC 7162 §3.2.10). The messages of VANISHED (EARLIER) aren't in EXISTS.
func (t *Client) vanished(rest []byte, whole bool) {
	if bytes.HasPrefix(bytes.ToUpper(rest), []byte("(EARLIER)")) {
		return
	}
	uids, err := view.ParseUIDs(rest)
	if err != nil || !whole || uids.Count() > t.Mailbox.Exists {
		t.Mailbox.doubt = BlockerMailbox
		return
	}
	t.Mailbox.Exists -= uids.Count()
	t.Mailbox.tallied().Vanished(uids, t.Mailbox.Next)
	if t.Mailbox.known != nil {
		t.Mailbox.known.vanished()
	}
}

// code follows a response code of SELECT (RFC 9051 §7.1).
func (t *Client) code(rest []byte) {
	code, args := wire.Code(rest)
	switch {
	case wire.Is(code, "UIDVALIDITY"):
		if n := number32(args); !t.Mailbox.opened {
			t.Mailbox.Validity = n
		} else if n != t.Mailbox.Validity {
			t.Mailbox.doubt = BlockerMailbox // the UIDs that the client was told mean nothing any more
		}
	case wire.Is(code, "UIDNEXT"):
		if !t.Mailbox.opened { // the tally tells the messages of the SELECT from later ones by it
			t.Mailbox.Next = number32(args)
		}
	case wire.Is(code, "HIGHESTMODSEQ"):
		if !t.Mailbox.opened { // a later one may cover flags that the client hasn't been told
			t.Mailbox.ModSeq = number64(args)
		}
	case wire.Is(code, "PERMANENTFLAGS"):
		t.Mailbox.Permanent = t.flagList(args, true)
	case wire.Is(code, "UIDNOTSTICKY"):
		t.Mailbox.doubt = BlockerNoUIDs
	case wire.Is(code, "NOMODSEQ"):
		t.Mailbox.noModSeq = true
	case wire.Is(code, "CLOSED"):
		t.forget()
		t.closed = true
	}
}

// enables follows ENABLED (RFC 5161 §3.2).
func (t *Client) enables(names string) {
	for name := range strings.FieldsSeq(strings.ToUpper(names)) {
		switch {
		case !slices.Contains(enableable, name):
			t.doubt = BlockerEnabled
		case !slices.Contains(t.Enabled, name):
			t.Enabled = append(t.Enabled, name)
		}
		switch name {
		case "QRESYNC":
			t.Dialect = view.QResync
		case "CONDSTORE":
			t.Dialect = max(t.Dialect, view.CondStore)
		case "UIDONLY":
			t.UIDOnly = true
		case "UTF8=ACCEPT", "IMAP4REV2":
			t.utf8 = true
			if strings.IndexFunc(t.Mailbox.Name, func(r rune) bool { return r == '&' || r >= 0x80 }) >= 0 {
				t.Mailbox.doubt = BlockerName // the name was sent before ENABLE and would be read differently after it
			}
		}
	}
}

// UTF8 says whether the names of mailboxes are in UTF-8 (RFC 6855 §3, RFC 9051 §5.1). Otherwise they are in modified UTF-7.
func (t *Client) UTF8() bool { return t.utf8 }

// forget drops the mailbox of before the last SELECT.
func (t *Client) forget() {
	if t.hasBefore {
		*t.before, t.hasBefore = Mailbox{}, false
	}
}

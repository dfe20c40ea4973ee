package proxy

import (
	"bytes"
	"slices"
	"strings"
	"unique"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// enableable are the extensions that a resumed connection can be given again.
var enableable = []string{"CONDSTORE", "QRESYNC", "UTF8=ACCEPT", "IMAP4REV2", "UIDONLY"}

// told is what a client has been told of its session, as far as a view needs it:
// followed along while the session is attached, under flight's mutex.
type told struct {
	enabled []string // by ENABLE, in upper case
	dialect view.Dialect
	utf8    bool // mailbox names are UTF-8 (RFC 6855, RFC 9051 §5.1)
	uidOnly bool // no message numbers: the client is told by UID (RFC 9586)
	doubt   kept // for the session's life
	// compared: the backend has no QRESYNC.
	compared bool

	box selection
	// before is what was selected before the SELECT that is under way, where hasBefore says so: a
	// SELECT that is answered BAD changes nothing, unless the backend has said CLOSED. Its room is
	// used again.
	before            *selection
	hasBefore, closed bool
}

// selection is what the client was told of its selected mailbox.
type selection struct {
	began     uint64 // the number of the command that selects it
	name      string // canonical; "" nothing is selected, or it has no name that can be said again
	readOnly  bool
	exists    uint32
	validity  uint32
	next      uint32
	modSeq    uint64 // of SELECT's answer
	flags     view.Flags
	permanent view.Flags
	byNumber  bool // message numbers were used
	noModSeq  bool // the mailbox has no mod-sequences
	heard     bool // anything was told of a mailbox
	back      bool // a SELECT after it was answered BAD
	doubt     kept // until another mailbox is selected
	known     *known
}

// now takes over what the client has been told while the session was parked.
func (b *selection) now(v *view.View) {
	b.exists, b.flags, b.modSeq, b.known = v.UIDs.Count(), v.Flags, v.ModSeq, knownOf(v.Known, v.UIDs)
}

// fetched follows a FETCH response, where a resync tells of flags that have changed since.
func (t *told) fetched(f *fetchResponse) {
	if t.compared || t.box.name == "" {
		return
	}
	if t.box.known == nil {
		t.box.known = &known{}
	}
	t.box.known.fetched(f, t.box.modSeq)
}

// stores follows a STORE that begins.
func (t *told) stores(seq uint64, h wire.CommandHead, whole bool) {
	if t.compared || t.box.name == "" {
		return
	}
	if t.box.known == nil {
		t.box.known = &known{}
	}
	t.box.known.begins(seq, h, whole)
}

// untagged follows a response. whole says that all of it stands in the head.
func (t *told) untagged(h wire.ResponseHead, whole bool) {
	if h.Status != wire.NoStatus {
		if h.Status == wire.OK {
			t.code(h.Rest)
		}
		return
	}
	switch {
	case named(h.Name, "EXISTS"):
		t.box.exists, t.box.heard = h.Number, true
	case named(h.Name, "EXPUNGE"):
		t.box.heard = true
		if t.box.exists > 0 {
			t.box.exists--
		}
		if t.box.known != nil {
			t.box.known.expunged(h.Number)
		}
	case named(h.Name, "VANISHED"):
		t.box.heard = true
		t.vanished(h.Rest, whole)
	case named(h.Name, "FLAGS"):
		t.box.flags, t.box.heard = t.flagList(h.Rest, whole), true
	case named(h.Name, "ENABLED"):
		t.enables(string(h.Rest))
	}
}

func (t *told) flagList(b []byte, whole bool) view.Flags {
	f, err := view.ParseFlags(b)
	if err != nil || !whole {
		t.box.doubt = keptMailbox
	}
	return unique.Make(f).Value() // most mailboxes have the same
}

// vanished follows VANISHED (RFC 7162 §3.2.10): its EARLIER form isn't counted in
// EXISTS.
func (t *told) vanished(rest []byte, whole bool) {
	if bytes.HasPrefix(bytes.ToUpper(rest), []byte("(EARLIER)")) {
		return
	}
	uids, err := view.ParseUIDs(rest)
	if err != nil || !whole || uids.Count() > t.box.exists {
		t.box.doubt = keptMailbox
		return
	}
	t.box.exists -= uids.Count()
	if t.box.known != nil {
		t.box.known.vanished()
	}
}

// code follows a response code of SELECT's (RFC 9051 §7.1).
func (t *told) code(rest []byte) {
	code, args := wire.Code(rest)
	switch {
	case named(code, "UIDVALIDITY"):
		t.box.validity = number32(args)
	case named(code, "UIDNEXT"):
		t.box.next = number32(args)
	case named(code, "HIGHESTMODSEQ"):
		if t.box.modSeq == 0 { // SELECT's own; later ones only say what the client may know by now
			t.box.modSeq = number64(args)
		}
	case named(code, "PERMANENTFLAGS"):
		t.box.permanent = t.flagList(args, true)
	case named(code, "UIDNOTSTICKY"):
		t.box.doubt = keptNoUIDs
	case named(code, "NOMODSEQ"):
		t.box.noModSeq = true
	case named(code, "CLOSED"):
		t.forget()
		t.closed = true
	}
}

// enables follows ENABLED (RFC 5161 §3.2).
func (t *told) enables(names string) {
	for name := range strings.FieldsSeq(strings.ToUpper(names)) {
		switch {
		case !slices.Contains(enableable, name):
			t.doubt = keptEnabled
		case !slices.Contains(t.enabled, name):
			t.enabled = append(t.enabled, name)
		}
		switch name {
		case "QRESYNC":
			t.dialect = view.QResync
		case "CONDSTORE":
			t.dialect = max(t.dialect, view.CondStore)
		case "UIDONLY":
			t.uidOnly = true
		case "UTF8=ACCEPT", "IMAP4REV2":
			t.utf8 = true
			if strings.IndexFunc(t.box.name, func(r rune) bool { return r == '&' || r >= 0x80 }) >= 0 {
				t.box.doubt = keptName // said before, and understood after
			}
		}
	}
}

// named compares a word of the protocol.
func named(b []byte, word string) bool {
	return len(b) == len(word) && bytes.EqualFold(b, []byte(word))
}

// containsFold says whether b has the upper-case word in it, in any case.
func containsFold(b []byte, upper string) bool {
	for i := 0; i+len(upper) <= len(b); i++ {
		if b[i]&^0x20 == upper[0] && bytes.EqualFold(b[i:i+len(upper)], []byte(upper)) {
			return true
		}
	}
	return false
}

func number64(b []byte) uint64 {
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<63/10 {
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

func number32(b []byte) uint32 {
	if n := number64(b); n < 1<<32 {
		return uint32(n)
	}
	return 0
}

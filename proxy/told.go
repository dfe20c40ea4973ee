package proxy

import (
	"bytes"
	"slices"
	"strings"
	"unique"

	"imapproxy/proxy/park"
	"imapproxy/proxy/wire"
)

// enableable are the extensions that a resumed connection can be given again.
var enableable = []string{"CONDSTORE", "QRESYNC", "UTF8=ACCEPT"}

// told is what a client has been told of its session, as far as a view needs it:
// followed along while the session is attached, under flight's mutex.
type told struct {
	enabled []string // by ENABLE, in upper case
	dialect park.Dialect
	utf8    bool // mailbox names are UTF-8 (RFC 6855)
	doubt   kept // for the session's life
	// compared: the backend has no QRESYNC.
	compared bool
	long     bool // a command wasn't seen whole: it may have switched on CONDSTORE

	box selection
}

// selection is what the client was told of its selected mailbox.
type selection struct {
	name      string // canonical; "" nothing is selected, or it has no name that can be said again
	readOnly  bool
	exists    uint32
	validity  uint32
	next      uint32
	modSeq    uint64 // of SELECT's answer
	flags     park.Flags
	permanent park.Flags
	byNumber  bool // message numbers were used
	doubt     kept // until another mailbox is selected
	known     *known
}

// now takes over what the client has been told while the session was parked.
func (b *selection) now(v *park.View) {
	b.exists, b.flags, b.modSeq, b.known = v.UIDs.Count(), v.Flags, v.ModSeq, knownOf(v.Known)
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

// command follows a command of the client's. whole says that all of it stands in
// the head.
func (t *told) command(h wire.CommandHead, whole bool) {
	r := h.Verb.Rule()
	switch r.State {
	case wire.NotifyState:
		t.doubt = keptNotify
	case wire.UnknownState:
		t.doubt = keptUnknown
	}
	switch {
	case r.Selects:
		t.selects(h, whole)
	case r.Renames:
		t.moves(h, whole)
	}
	if r.ByNumber() {
		t.box.byNumber = true
	}
	if r.ModSeq {
		t.modSeqWord(h, whole)
	}
	if r.Saves {
		t.saves(h)
	}
}

// modSeqWord looks for what makes a session one of CONDSTORE's (RFC 7162 §3.1).
func (t *told) modSeqWord(h wire.CommandHead, whole bool) {
	switch {
	case t.dialect != park.Plain:
	case containsFold(h.Args, "MODSEQ") || containsFold(h.Args, "CHANGEDSINCE"):
		t.dialect = park.CondStore
	case !whole:
		t.box.doubt, t.long = keptLong, true
	}
}

// saves looks for a search whose result lives on.
func (t *told) saves(h wire.CommandHead) {
	if containsFold(h.Args, "SAVE") || containsFold(h.Args, "UPDATE") {
		t.box.doubt = keptSaved
	}
}

// selects begins a selection: what was selected isn't any more (RFC 9051 §6.3.2).
func (t *told) selects(h wire.CommandHead, whole bool) {
	t.box = selection{readOnly: h.Verb == wire.Examine}
	name, params, err := wire.AString(h.Args)
	if err == nil && whole {
		t.box.name, err = park.DecodeMailbox(name, t.utf8)
	}
	if err != nil || !whole {
		t.box.doubt, t.long = keptName, t.long || !whole // (CONDSTORE) may come behind a literal
	}
	if containsFold(params, "CONDSTORE") && t.dialect == park.Plain {
		t.dialect = park.CondStore
	}
}

// moves looks for a RENAME or DELETE of the client's own mailbox, or of one above it: it stays
// selected on this connection, and can't be selected again by its name.
func (t *told) moves(h wire.CommandHead, whole bool) {
	if t.box.name == "" {
		return
	}
	name, _, err := wire.AString(h.Args)
	if err == nil && whole {
		name, err = park.DecodeMailbox(name, t.utf8)
	}
	if err != nil || !whole || name != "INBOX" && strings.HasPrefix(t.box.name, name) { // INBOX stays where it is
		t.box.doubt = keptName
	}
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
		t.box.exists = h.Number
	case named(h.Name, "EXPUNGE"):
		if t.box.exists > 0 {
			t.box.exists--
		}
		if t.box.known != nil {
			t.box.known.expunged(h.Number)
		}
	case named(h.Name, "VANISHED"):
		t.vanished(h.Rest, whole)
	case named(h.Name, "FLAGS"):
		t.box.flags = t.flagList(h.Rest, whole)
	case named(h.Name, "ENABLED"):
		t.enables(string(h.Rest))
	}
}

func (t *told) flagList(b []byte, whole bool) park.Flags {
	f, err := park.ParseFlags(b)
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
	uids, err := park.ParseUIDs(rest)
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
		if t.dialect != park.Plain {
			t.box.doubt = keptNoModSeq
		}
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
			t.dialect = park.QResync
		case "CONDSTORE":
			t.dialect = max(t.dialect, park.CondStore)
		case "UTF8=ACCEPT":
			t.utf8 = true
			if strings.IndexFunc(t.box.name, func(r rune) bool { return r == '&' || r >= 0x80 }) >= 0 {
				t.box.doubt = keptName // said before, and understood after
			}
		}
	}
}

// answered follows a tagged answer. selecting says that a mailbox is about to be
// selected behind it: what was told so far wasn't of that one.
func (t *told) answered(v wire.Verb, status wire.Status, rest []byte, selecting bool) {
	if selecting {
		b := &t.box
		t.box = selection{name: b.name, readOnly: b.readOnly, byNumber: b.byNumber, doubt: b.doubt}
		return
	}
	switch r := v.Rule(); {
	case r.Selects:
		code, _ := wire.Code(rest)
		switch {
		case status != wire.OK:
			t.box = selection{}
		case bytes.EqualFold(code, []byte("READ-ONLY")):
			t.box.readOnly = true
		}
	case r.Leaves && status == wire.OK:
		t.box = selection{}
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

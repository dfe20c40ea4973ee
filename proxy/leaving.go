package proxy

import (
	"bytes"
	"strings"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// A command that leaves the selected mailbox makes all that the client hasn't been told of it
// void: it would take a number of the old mailbox for one of the new.

// leaving is what a command makes of the mailbox that is selected for a client whose
// backend doesn't have it selected, or counts its messages otherwise.
type leaving uint8

const (
	stays           leaving = iota // it stays selected, or may: the client is told as ever
	leaves                         // nothing of it matters any more
	leavesExpunging                // its \Deleted messages go (CLOSE, RFC 9051 §6.4.1): a backend has to have it selected
)

// leavingBy says what a command makes of the selected mailbox. line is its first line, whole. The
// cases in which it stays:
//   - the verb is another one, or the tag is none;
//   - CLOSE or UNSELECT with arguments, or UNSELECT where the backend has none, which is BAD;
//   - SELECT or EXAMINE whose name or parameters a backend may call BAD: a command that
//     isn't understood changes nothing.
//
// After SELECT that is answered NO nothing is selected either (RFC 9051 §6.3.2).
func leavingBy(line []byte, t *told, caps wire.Caps) leaving {
	if !bytes.HasSuffix(line, []byte("\n")) {
		return stays
	}
	h := wire.ParseCommandHead(line)
	r := h.Verb.Rule()
	switch {
	case !r.Leaves || !wire.ValidTag(h.Tag) || len(h.Tag) > maxTag:
		return stays
	case r.Selects && selectsWell(h.Args, t.dialect, caps):
		return leaves
	case r.Selects || len(h.Args) > 0:
		return stays
	case h.Verb == wire.Unselect && !caps.Has("UNSELECT") && !caps.Has("IMAP4rev2"):
		return stays
	case h.Verb == wire.Close && !t.box.readOnly:
		return leavesExpunging
	}
	return leaves
}

// selectsWell says whether what follows SELECT is what every server understands: a name, which
// may be a literal that begins here, and parameters of RFC 7162 where the backend knows them.
func selectsWell(args []byte, dialect view.Dialect, caps wire.Caps) bool {
	if _, _, literal := wire.LiteralSpec(args); literal {
		return bytes.LastIndexByte(args, '{') == 0
	}
	_, params, err := wire.AString(args)
	if err != nil {
		return false
	}
	switch p := strings.ToUpper(string(params)); {
	case p == "":
		return true
	case p == "(CONDSTORE)":
		return caps.Has("CONDSTORE") || caps.Has("QRESYNC")
	case strings.HasPrefix(p, "(QRESYNC (") && strings.HasSuffix(p, "))"):
		return dialect == view.QResync
	}
	return false
}

// closed tells a client that what was selected isn't any more, before its SELECT goes on
// (RFC 9051 §7.1, RFC 7162 §3.2.11): a backend that doesn't have it selected won't say so.
const closed = "* OK [CLOSED] Previous mailbox closed\r\n"

// tellLeft does what tellMissed does, for a command that leaves the mailbox: nothing of it
// is told.
func (s *Session) tellLeft() error {
	s.park.mu.Lock()
	s.park.state, s.park.owed, s.park.star = nil, nil, 0
	s.park.mu.Unlock()
	if s.park.leaving != leaves {
		return nil
	}
	s.flight.deselect()
	return s.say([]byte(closed))
}

// deselect notes that no mailbox is selected any more.
func (f *flight) deselect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.selected, f.told.box = false, selection{}
}

// left answers UNSELECT, or a CLOSE that expunges nothing, without a backend: from then on
// the session is parked with nothing selected.
func (f *still) left(h wire.CommandHead) bool {
	s := f.s
	tag := string(h.Tag)
	s.unpark()
	s.unsubscribe()
	s.park.mu.Lock()
	s.park.times++ // what is on its way to it was of the mailbox
	s.park.view, s.park.state = nil, nil
	s.park.mu.Unlock()
	if !s.flight.begin(h, true, s.srv.now()) || s.say([]byte(tag+" OK "+h.Verb.String()+" completed\r\n")) != nil {
		return true // the session is over
	}
	s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.OK}, s.srv.now())
	return true
}

package track

import (
	"bytes"
	"strings"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// A command that leaves the selected mailbox makes all that the client hasn't been told of it
// void: it would take a number of the old mailbox for one of the new.

// Leaving is what a command makes of the mailbox that is selected for a client whose
// backend doesn't have it selected, or counts its messages otherwise.
type Leaving uint8

const (
	Stays           Leaving = iota // it stays selected, or may: the client is told as ever
	Leaves                         // nothing of it matters any more
	leavesExpunging                // its \Deleted messages go (CLOSE, RFC 9051 §6.4.1): a backend has to have it selected
)

// LeavingBy says what a command makes of the selected mailbox. line is its first line, whole. The
// cases in which it stays:
//   - the verb is another one, or the tag is none;
//   - CLOSE or UNSELECT with arguments, or UNSELECT where the backend has none, which is BAD;
//   - SELECT or EXAMINE whose name or parameters a backend may call BAD: a command that
//     isn't understood changes nothing.
//
// After SELECT that is answered NO nothing is selected either (RFC 9051 §6.3.2).
func LeavingBy(line []byte, t *Client, caps wire.Caps) Leaving {
	if !bytes.HasSuffix(line, []byte("\n")) {
		return Stays
	}
	h := wire.ParseCommandHead(line)
	r := h.Verb.Rule()
	switch {
	case !r.Leaves || !wire.ValidTag(h.Tag) || len(h.Tag) > MaxTag:
		return Stays
	case r.Selects && selectsWell(h.Args, t.Dialect, caps):
		return Leaves
	case r.Selects || len(h.Args) > 0:
		return Stays
	case h.Verb == wire.Unselect && !caps.Has("UNSELECT") && !caps.Has("IMAP4rev2"):
		return Stays
	case h.Verb == wire.Close && !t.Mailbox.ReadOnly:
		return leavesExpunging
	}
	return Leaves
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

// Deselect notes that no mailbox is selected any more.
func (f *InFlight) Deselect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.selected, f.Client.Mailbox = false, Mailbox{}
}

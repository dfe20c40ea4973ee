package track

import (
	"bytes"
	"strings"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// When a command leaves the selected mailbox, all changes that the client hasn't been told of it must be
// dropped: the client would apply a number of the old mailbox to the new one.

// Leaving is how a command treats the mailbox that is selected for a client, if the backend doesn't have that
// mailbox selected or numbers its messages differently.
type Leaving uint8

const (
	Stays          Leaving = iota // it stays selected, or may: the client is still told of its changes
	Leaves                        // its changes don't matter any more
	LeavesSelected                // the backend removes its \Deleted messages (CLOSE, RFC 9051 §6.4.1), so it has to be selected there
)

// LeavingBy returns how a command treats the selected mailbox. line is the command's whole first line. The
// mailbox stays if:
//   - the verb isn't one of those below, or the tag isn't valid;
//   - CLOSE or UNSELECT has arguments, or the backend doesn't support UNSELECT: the answer is BAD;
//   - a backend may answer SELECT or EXAMINE with BAD because of the name or parameters: a command that
//     isn't understood changes nothing.
//
// After a SELECT that is answered NO, no mailbox is selected (RFC 9051 §6.3.2).
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
		return LeavesSelected
	}
	return Leaves
}

// selectsWell says whether every server understands the arguments of a SELECT: a name, which may be a literal
// that begins here, and parameters of RFC 7162 if the backend supports them.
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

// Deselect records that no mailbox is selected any more.
func (f *InFlight) Deselect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.selected, f.Client.Mailbox = false, Mailbox{}
}

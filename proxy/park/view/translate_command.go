package view

import (
	"bytes"

	"imapproxy/proxy/wire"
)

// Disposition says what is to be done with a client's command once its numbers were translated.
type Disposition uint8

// The fates of a command.
const (
	// Relay: it goes to the backend, and so does its answer to the client.
	Relay Disposition = iota

	// RelayPart: some of its messages are gone. It goes to the backend for the others, and the
	// tagged answer says so: AppendPartly. RFC 2180 §4.1.2, §4.2.
	RelayPart

	// Refuse: nothing goes to the backend; the proxy answers AppendExpungeIssued. All its
	// messages are gone, or some of a COPY, MOVE or REPLACE, which are done whole or not at
	// all (RFC 2180 §4.4), or it isn't known how to translate it. The client will say NOOP,
	// be told, and ask again (RFC 5530 §3, EXPUNGEISSUED).
	Refuse

	// Invalid: it isn't what the grammar has. Nothing goes to the backend; the proxy answers
	// AppendInvalid.
	Invalid

	// RelayNoUpdate: it goes to the backend without UPDATE (RFC 5267 §4.3), whose numbers would
	// come unasked; before that the client is told AppendNoUpdate.
	RelayNoUpdate
)

// Goes says whether anything of the command goes to the backend.
func (f Disposition) Goes() bool { return f != Refuse && f != Invalid }

// Command adds a client's command, as the backend must see it, to dst. cmd is the
// command with its literals inline and its line ends; of FETCH, STORE, COPY, MOVE, REPLACE
// and their UID forms the first line, or what of it goes as far as the set, is
// enough, and the rest may follow as it is. What doesn't go (Goes) leaves dst alone.
//
// "*" is the client's last message, also in sets of UIDs: STORE * must not
// mark another message than the one the client sees at the end of its list.
func (n SequenceMap) Command(dst, cmd []byte) ([]byte, Disposition) {
	if n.Deferred().Empty() {
		return append(dst, cmd...), Relay
	}
	h := wire.ParseCommandHead(cmd)
	if !h.OK {
		return append(dst, cmd...), Relay
	}
	line := trimEOL(cmd)
	head, end := line[:len(line)-len(h.Args)], cmd[len(line):]
	switch r := h.Verb.Rule(); {
	case r.Set == wire.FirstArgument && r.UID:
		return n.set(dst, head, cmd, uids)
	case r.Set == wire.FirstArgument && r.HoldsExpunge:
		return n.set(dst, head, cmd, numbersOrNothing)
	case r.Set == wire.FirstArgument:
		return n.set(dst, head, cmd, allNumbers)
	case r.Set == wire.Program:
		s := searchArgs{in: h.Args, out: append(dst, head...), numbers: n}
		switch {
		case s.program(h.Verb):
			if s.update {
				return append(s.out, end...), RelayNoUpdate
			}
			return append(s.out, end...), Relay
		case !s.unknown:
			return dst, Invalid
		case !bytes.ContainsAny(h.Args, "0123456789*"):
			return append(dst, cmd...), Relay // no number is in it
		}
		return dst, Refuse
	case r.State == wire.UnknownState:
		return dst, Refuse
	}
	return append(dst, cmd...), Relay
}

// setKind says what the set is that a command has for its first argument.
type setKind uint8

const (
	numbersOrNothing setKind = iota // numbers; those still there will do
	allNumbers                      // numbers; all or none
	uids                            // UIDs
)

// set translates a command whose first argument, behind head, is a set.
func (n SequenceMap) set(dst, head, cmd []byte, kind setKind) ([]byte, Disposition) {
	set := cmd[len(head):]
	if i := bytes.IndexAny(set, " \r\n"); i >= 0 {
		set = set[:i]
	}
	rest := cmd[len(head)+len(set):]
	out := append(dst, head...)
	var gone bool
	switch {
	case string(set) == "$": // the result of a SEARCH on this very connection (RFC 5182)
		return append(dst, cmd...), Relay
	case kind == uids:
		var ok bool
		if out, ok = n.appendUIDSet(out, set); !ok {
			return dst, Invalid
		}
	default:
		numbers, ok := n.parseNumbers(set)
		if !ok {
			return dst, Invalid
		}
		numbers, gone = n.toBackend(numbers)
		if numbers.Empty() || gone && kind == allNumbers {
			return dst, Refuse
		}
		out = numbers.AppendTo(out)
	}
	out = append(out, rest...)
	if gone {
		return out, RelayPart
	}
	return out, Relay
}

// AppendExpungeIssued adds the proxy's answer to a command that is Refuse.
func AppendExpungeIssued(dst, tag []byte) []byte {
	dst = append(dst, tag...)
	return append(dst, " NO [EXPUNGEISSUED] Some of these messages are gone\r\n"...)
}

// AppendInvalid adds the proxy's answer to a command that is Invalid.
func AppendInvalid(dst, tag []byte) []byte {
	dst = append(dst, tag...)
	return append(dst, " BAD Syntax error in the arguments\r\n"...)
}

// AppendNoUpdate adds the response that says that a search isn't kept up to date (RFC 5267 §4.3.1).
func AppendNoUpdate(dst, tag []byte) []byte {
	dst = append(dst, "* NO [NOUPDATE "...)
	dst = wire.AppendQuoted(dst, string(tag))
	return append(dst, "] Messages have gone that you haven't heard of yet\r\n"...)
}

// AppendPartly adds the tagged answer of a command that was RelayPart: the backend's, but
// that an OK becomes a NO. MODIFIED stays where it is (RFC 7162 §3.1.3).
func AppendPartly(dst, line []byte) []byte {
	h := wire.ParseResponseHead(line)
	if h.Kind != wire.Tagged || h.Status != wire.OK {
		return append(dst, line...)
	}
	if code, _ := wire.Code(h.Rest); !bytes.EqualFold(code, []byte("MODIFIED")) {
		return AppendExpungeIssued(dst, h.Tag)
	}
	dst = append(dst, h.Tag...)
	dst = append(dst, " NO "...)
	dst = append(dst, h.Rest...)
	return append(dst, "\r\n"...)
}

package view

import (
	"bytes"

	"imapproxy/proxy/wire"
)

// Disposition says what the proxy does with a client's command after its numbers were translated.
type Disposition uint8

// The dispositions of a command.
const (
	// Relay: the command goes to the backend, and its answer to the client.
	Relay Disposition = iota

	// RelayPart: some of the command's messages were removed. The command goes to the backend for the others,
	// and the tagged answer tells the client (AppendPartly). RFC 2180 §4.1.2, §4.2.
	RelayPart

	// Refuse: nothing goes to the backend; the proxy answers AppendExpungeIssued. All of the command's
	// messages were removed; or some messages of a COPY, MOVE or REPLACE, which are atomic (RFC 2180 §4.4);
	// or the proxy can't translate the command. The client is expected to send NOOP, learn of the EXPUNGEs,
	// and repeat the command (RFC 5530 §3, EXPUNGEISSUED).
	Refuse

	// Invalid: the command isn't valid by the grammar. Nothing goes to the backend; the proxy answers
	// AppendInvalid.
	Invalid

	// RelayNoUpdate: the command goes to the backend without UPDATE (RFC 5267 §4.3), which would later cause
	// unsolicited numbers; before that the client is told AppendNoUpdate.
	RelayNoUpdate
)

// Goes says whether any part of the command goes to the backend.
func (f Disposition) Goes() bool { return f != Refuse && f != Invalid }

// Command appends a client's command in the form for the backend to dst. cmd is the command with its literals
// and line ends. For FETCH, STORE, COPY, MOVE, REPLACE and their UID forms the first line is enough, or its
// beginning up to the end of the set; the rest may follow unchanged. dst is returned unchanged if no part of
// the command goes to the backend (Goes).
//
// "*" is the client's last message, also in sets of UIDs: STORE * must not change another message than the
// last one in the client's list.
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
			return append(dst, cmd...), Relay // it contains no number
		}
		return dst, Refuse
	case r.State == wire.UnknownState:
		return dst, Refuse
	}
	return append(dst, cmd...), Relay
}

// setKind is the kind of the set that is a command's first argument.
type setKind uint8

const (
	numbersOrNothing setKind = iota // numbers; the command may be done for the messages that remain
	allNumbers                      // numbers; the command must be done for all messages or none
	uids                            // UIDs
)

// set translates a command whose first argument, after head, is a set.
func (n SequenceMap) set(dst, head, cmd []byte, kind setKind) ([]byte, Disposition) {
	set := cmd[len(head):]
	if i := bytes.IndexAny(set, " \r\n"); i >= 0 {
		set = set[:i]
	}
	rest := cmd[len(head)+len(set):]
	out := append(dst, head...)
	var gone bool
	switch {
	case string(set) == "$": // the result of a SEARCH on the same connection (RFC 5182)
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

// AppendExpungeIssued appends the proxy's answer to a command with the disposition Refuse.
func AppendExpungeIssued(dst, tag []byte) []byte {
	dst = append(dst, tag...)
	return append(dst, " NO [EXPUNGEISSUED] Some of these messages are gone\r\n"...)
}

// AppendInvalid appends the proxy's answer to a command with the disposition Invalid.
func AppendInvalid(dst, tag []byte) []byte {
	dst = append(dst, tag...)
	return append(dst, " BAD Syntax error in the arguments\r\n"...)
}

// AppendNoUpdate appends the response that tells that a search result isn't updated (RFC 5267 §4.3.1).
func AppendNoUpdate(dst, tag []byte) []byte {
	dst = append(dst, "* NO [NOUPDATE "...)
	dst = wire.AppendQuoted(dst, string(tag))
	return append(dst, "] Messages have gone that you weren't told of yet\r\n"...)
}

// AppendPartly appends the tagged answer to a command with the disposition RelayPart: the backend's answer,
// with NO for an OK. The code MODIFIED remains (RFC 7162 §3.1.3).
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

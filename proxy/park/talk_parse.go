package park

import (
	"bytes"
	"fmt"
	"strconv"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// parseVanished reads what follows VANISHED. RFC 7162 §3.2.10.
func parseVanished(rest []byte) (earlier bool, uids view.UIDs, err error) {
	const mark = "(EARLIER) "
	if len(rest) > len(mark) && bytes.EqualFold(rest[:len(mark)], []byte(mark)) {
		earlier, rest = true, rest[len(mark):]
	}
	uids, err = view.ParseUIDs(rest)
	if err != nil {
		err = fmt.Errorf("%w: VANISHED: %w", errAnswer, err)
	}
	return earlier, uids, err
}

// found is what a search has answered.
type found struct {
	uids  view.UIDs
	count uint32
	tag   string // of the command it answers; "" where it doesn't say
}

// parseESearch reads what follows ESEARCH. RFC 9051 §7.3.4.
func parseESearch(rest []byte) (found, error) {
	var f found
	hasCount, uid := false, false
	for first := true; len(rest) > 0; first = false {
		if rest[0] == '(' && first {
			end := bytes.IndexByte(rest, ')')
			if end < 0 {
				return f, errAnswer
			}
			word, value := cutSpace(rest[1:end])
			if !bytes.EqualFold(word, []byte("TAG")) {
				return f, errAnswer
			}
			tag, left, err := wire.AString(value)
			if err != nil || len(left) > 0 {
				return f, errAnswer
			}
			f.tag = tag
			rest = bytes.TrimPrefix(rest[end+1:], []byte(" "))
			continue
		}
		var name, value []byte
		name, rest = cutSpace(rest)
		if bytes.EqualFold(name, []byte("UID")) {
			uid = true
			continue
		}
		value, rest = cutSpace(rest)
		switch {
		case bytes.EqualFold(name, []byte("ALL")):
			uids, err := view.ParseUIDs(value)
			if err != nil {
				return f, err
			}
			f.uids = uids
		case bytes.EqualFold(name, []byte("COUNT")):
			n, err := strconv.ParseUint(string(value), 10, 32)
			if err != nil {
				return f, errAnswer
			}
			f.count, hasCount = uint32(n), true
		}
	}
	if !uid || !hasCount {
		return f, errAnswer
	}
	return f, nil
}

// parseSearch reads what follows SEARCH. RFC 3501 §7.2.5; RFC 7162 §3.1.5.
func parseSearch(rest []byte) (view.UIDs, error) {
	var uids []uint32
	for len(rest) > 0 {
		var word []byte
		word, rest = cutSpace(rest)
		if len(word) == 0 {
			continue
		}
		if word[0] == '(' {
			break // (MODSEQ n)
		}
		n, err := strconv.ParseUint(string(word), 10, 32)
		if err != nil || n == 0 {
			return view.UIDs{}, errAnswer
		}
		uids = append(uids, uint32(n))
	}
	return view.UIDsOf(uids...), nil
}

func cutSpace(b []byte) (word, rest []byte) {
	word, rest, _ = bytes.Cut(b, []byte(" "))
	return word, rest
}

// fetched is what a FETCH response says of one message, as far as it concerns us.
type fetched struct {
	uid      uint32 // 0: not said
	flags    view.Flags
	hasFlags bool
	modSeq   uint64 // 0: not said
	others   bool   // there are other items
}

// parseFetch reads what follows FETCH: "(" pairs of name and value ")". RFC 9051
// §7.5.2, §9 msg-att. Items that aren't known are skipped, whatever they are.
func parseFetch(rest []byte) (fetched, error) {
	var f fetched
	if len(rest) < 2 || rest[0] != '(' {
		return f, errAnswer
	}
	rest = rest[1:]
	for {
		rest = bytes.TrimLeft(rest, " ")
		if len(rest) == 0 {
			return f, errAnswer
		}
		if rest[0] == ')' {
			if len(rest) > 1 {
				return f, errAnswer
			}
			return f, nil
		}
		name, after, err := itemName(rest)
		if err != nil {
			return f, err
		}
		value, after, err := itemValue(after)
		if err != nil {
			return f, err
		}
		if err := f.set(name, value); err != nil {
			return f, err
		}
		rest = after
	}
}

func (f *fetched) set(name, value []byte) error {
	switch {
	case bytes.EqualFold(name, []byte("UID")):
		n, err := strconv.ParseUint(string(value), 10, 32)
		if err != nil || n == 0 {
			return errAnswer
		}
		f.uid = uint32(n)
	case bytes.EqualFold(name, []byte("FLAGS")):
		flags, err := view.ParseFlags(value)
		if err != nil {
			return err
		}
		f.flags, f.hasFlags = flags, true
	case bytes.EqualFold(name, []byte("MODSEQ")):
		n, err := strconv.ParseUint(string(bytes.Trim(value, "()")), 10, 64)
		if err != nil {
			return errAnswer
		}
		f.modSeq = n
	default:
		f.others = true
	}
	return nil
}

// itemName reads a name and the space behind it. One that has brackets may have
// anything in them: BODY[HEADER.FIELDS ("A" B)]<0>.
func itemName(b []byte) (name, rest []byte, err error) {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '[':
			depth++
		case c == ']' && depth > 0:
			depth--
		case c == '"' && depth > 0:
			_, after, err := quotedEnd(b[i:])
			if err != nil {
				return nil, nil, err
			}
			i = len(b) - len(after) - 1
		case c == ' ' && depth == 0:
			if i == 0 {
				return nil, nil, errAnswer
			}
			return b[:i], b[i+1:], nil
		case depth == 0 && (c == '(' || c == ')'):
			return nil, nil, errAnswer
		}
	}
	return nil, nil, errAnswer
}

// itemValue reads one value: a string, a literal, a list, or anything else up to a
// space or the list's end.
func itemValue(b []byte) (value, rest []byte, err error) {
	depth := 0
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case c == '"':
			_, after, err := quotedEnd(b[i:])
			if err != nil {
				return nil, nil, err
			}
			i = len(b) - len(after)
		case c == '\r' || c == '\n':
			return nil, nil, errAnswer
		case c == '{':
			n, err := literalEnd(b[i:])
			if err != nil {
				return nil, nil, err
			}
			i += n
		case c == '(':
			depth++
			i++
		case c == ')' && depth == 0, c == ' ' && depth == 0:
			if i == 0 {
				return nil, nil, errAnswer
			}
			return b[:i], b[i:], nil
		case c == ')':
			depth--
			i++
		default:
			i++
		}
	}
	return nil, nil, errAnswer
}

// quotedEnd finds the end of a quoted string at the front of b.
func quotedEnd(b []byte) (s, rest []byte, err error) {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return b[:i+1], b[i+1:], nil
		}
	}
	return nil, nil, errAnswer
}

// literalEnd is how many bytes the literal at the front of b takes, with its
// announcement.
func literalEnd(b []byte) (int, error) {
	eol := bytes.IndexByte(b, '\n')
	if eol < 0 {
		return 0, errAnswer
	}
	size, _, ok := wire.LiteralSpec(b[:eol+1])
	if !ok || size > int64(len(b)-eol-1) {
		return 0, errAnswer
	}
	return eol + 1 + int(size), nil
}

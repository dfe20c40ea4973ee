package resync

import (
	"bytes"
	"fmt"
	"strconv"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// parseVanished parses the arguments of VANISHED. RFC 7162 §3.2.10.
func parseVanished(rest []byte) (earlier bool, uids view.UIDs, err error) {
	const mark = "(EARLIER) "
	if len(rest) > len(mark) && bytes.EqualFold(rest[:len(mark)], []byte(mark)) {
		earlier, rest = true, rest[len(mark):]
	}
	uids, err = view.ParseUIDs(rest)
	if err != nil {
		err = fmt.Errorf("%w: VANISHED: %w", errProtocol, err)
	}
	return earlier, uids, err
}

// found is the result of a search.
type found struct {
	uids  view.UIDs
	count uint32
	tag   string // the tag of the search command; "" if the response doesn't have it
}

// parseESearch parses the arguments of ESEARCH. RFC 9051 §7.3.4.
func parseESearch(rest []byte) (found, error) {
	var f found
	hasCount, uid := false, false
	for first := true; len(rest) > 0; first = false {
		if rest[0] == '(' && first {
			end := bytes.IndexByte(rest, ')')
			if end < 0 {
				return f, errProtocol
			}
			word, value := cutSpace(rest[1:end])
			if !bytes.EqualFold(word, []byte("TAG")) {
				return f, errProtocol
			}
			tag, left, err := wire.AString(value)
			if err != nil || len(left) > 0 {
				return f, errProtocol
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
				return f, errProtocol
			}
			f.count, hasCount = uint32(n), true
		}
	}
	if !uid || !hasCount {
		return f, errProtocol
	}
	return f, nil
}

// parseSearch parses the arguments of SEARCH. RFC 3501 §7.2.5; RFC 7162 §3.1.5.
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
			return view.UIDs{}, errProtocol
		}
		uids = append(uids, uint32(n))
	}
	return view.UIDsOf(uids...), nil
}

func cutSpace(b []byte) (word, rest []byte) {
	word, rest, _ = bytes.Cut(b, []byte(" "))
	return word, rest
}

// fetched has those items of a FETCH response that a resync uses.
type fetched struct {
	uid      uint32 // 0: not in the response
	flags    view.Flags
	hasFlags bool
	modSeq   uint64 // 0: not in the response
	others   bool   // there are other items
}

// parseFetch parses the arguments of FETCH: "(" pairs of name and value ")". RFC 9051 §7.5.2, §9 msg-att.
// Unknown items are skipped.
func parseFetch(rest []byte) (fetched, error) {
	var f fetched
	if len(rest) < 2 || rest[0] != '(' {
		return f, errProtocol
	}
	rest = rest[1:]
	for {
		rest = bytes.TrimLeft(rest, " ")
		if len(rest) == 0 {
			return f, errProtocol
		}
		if rest[0] == ')' {
			if len(rest) > 1 {
				return f, errProtocol
			}
			return f, nil
		}
		name, after, err := wire.ItemName(rest)
		if err != nil {
			return f, err
		}
		value, after, err := wire.ItemValue(after)
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
			return errProtocol
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
			return errProtocol
		}
		f.modSeq = n
	default:
		f.others = true
	}
	return nil
}

package view

import (
	"bytes"
	"strconv"

	"imapproxy/proxy/wire"
)

// Response appends a response of the session connection in the form for the client to dst, and follows the
// messages that it adds and removes. line is the response with its line end and its literals; for FETCH, the
// part up to its name is enough. uid: the command at the backend is a UID form, so its results are UIDs.
//
// After an error (ErrNumbers, ErrUntranslatable) the session has to end.
func (n *SequenceMap) Response(dst, line []byte, uid bool) ([]byte, error) {
	h := wire.ParseResponseHead(line)
	name := string(bytes.ToUpper(h.Name))
	switch {
	case h.Kind == wire.Continue:
		return append(dst, line...), nil
	case h.Status != wire.NoStatus:
	case name == "EXISTS":
		return n.exists(dst, h.Number)
	case name == "EXPUNGE":
		return n.expunge(dst, h.Number)
	case name == "VANISHED":
		return n.vanished(dst, line, h.Rest)
	}
	if n.client.Count() == n.backend.Count() { // the backend has no message that the client doesn't count, so the numbers are the same
		return append(dst, line...), nil
	}
	if h.Status != wire.NoStatus {
		if code, args := wire.Code(h.Rest); !uid && bytes.EqualFold(code, []byte("MODIFIED")) {
			return n.inPlace(dst, line, len(trimEOL(line))-len(h.Rest), args)
		}
		return append(dst, line...), nil
	}
	body := trimEOL(line)
	end := line[len(body):]
	switch name {
	case "FETCH":
		number, ok := n.toClient(h.Number)
		if !ok {
			return dst, ErrNumbers
		}
		dst = append(dst, "* "...)
		dst = strconv.AppendUint(dst, uint64(number), 10)
		dst = append(dst, ' ')
		return append(dst, line[bytes.Index(line, h.Name):]...), nil
	case "SEARCH", "SORT", "THREAD":
		if uid || len(h.Rest) == 0 {
			return append(dst, line...), nil
		}
		dst = append(dst, body[:len(body)-len(h.Rest)]...)
		dst, err := n.results(dst, h.Rest)
		return append(dst, end...), err
	case "ESEARCH":
		dst = append(dst, body[:len(body)-len(h.Rest)]...)
		dst, err := n.esearch(dst, h.Rest)
		return append(dst, end...), err
	case "RECENT": // a count, best effort
	default:
		if h.Number != 0 {
			return dst, ErrUntranslatable
		}
	}
	return append(dst, line...), nil
}

// exists: RFC 9051 §7.4.1. New messages have the highest numbers.
func (n *SequenceMap) exists(dst []byte, count uint32) ([]byte, error) {
	if count < n.backend.Count()+n.tail || uint64(count-n.backend.Count())+uint64(n.client.Count()) > 1<<32-1 {
		return dst, ErrNumbers
	}
	n.tail = count - n.backend.Count()
	return appendNumbered(dst, n.client.Count()+n.tail, "EXISTS"), nil
}

// expunge: RFC 9051 §7.5.1.
func (n *SequenceMap) expunge(dst []byte, number uint32) ([]byte, error) {
	theirs, ok := n.toClient(number)
	if !ok {
		return dst, ErrNumbers
	}
	if uid, known := n.backend.At(number); known {
		gone := UIDRange(uid, uid)
		n.backend = n.backend.Without(gone)
		if n.held {
			return dst, nil
		}
		n.client = n.client.Without(gone)
	} else {
		n.tail--
	}
	return appendNumbered(dst, theirs, "EXPUNGE"), nil
}

// vanished: RFC 7162 §3.2.10. UIDs are the same on both sides; only the counts change. VANISHED (EARLIER)
// doesn't change them.
func (n *SequenceMap) vanished(dst, line, args []byte) ([]byte, error) {
	if len(args) > 0 && args[0] == '(' {
		return append(dst, line...), nil
	}
	gone, err := ParseUIDs(args)
	if err != nil {
		return dst, ErrUntranslatable
	}
	known := gone.Intersect(n.backend)
	beyond := gone.From(n.client.Last()).Without(n.client).Count()
	if beyond > n.tail {
		return dst, ErrNumbers
	}
	n.tail -= beyond
	if n.held {
		n.backend = n.backend.Without(known)
		if rest := gone.Without(known); beyond > 0 {
			return Difference{Vanished: rest}.AppendTo(dst, QResync, &View{}), nil
		}
		return dst, nil
	}
	n.backend, n.client = n.backend.Without(known), n.client.Without(known)
	return append(dst, line...), nil
}

// results translates the results of SEARCH, SORT and THREAD: numbers between spaces and parentheses (RFC 9051
// appendix E, RFC 5256 §4). (MODSEQ n) isn't changed (RFC 7162 §3.1.5).
func (n *SequenceMap) results(dst, rest []byte) ([]byte, error) {
	for i := 0; i < len(rest); {
		c := rest[i]
		switch {
		case c >= '0' && c <= '9':
			number, after, ok := cutNumber(rest[i:])
			if !ok {
				return dst, ErrNumbers
			}
			if number, ok = n.toClient(number); !ok {
				return dst, ErrNumbers
			}
			dst = strconv.AppendUint(dst, uint64(number), 10)
			i = len(rest) - len(after)
		case c == ' ' || c == '(' && !bytes.HasPrefix(bytes.ToUpper(rest[i:min(i+8, len(rest))]), []byte("(MODSEQ ")) || c == ')':
			dst = append(dst, c)
			i++
		case c == '(':
			return append(dst, rest[i:]...), nil
		default:
			return dst, ErrUntranslatable
		}
	}
	return dst, nil
}

// esearch: RFC 9051 §7.3.4, RFC 9394 §3.
func (n *SequenceMap) esearch(dst, rest []byte) ([]byte, error) {
	if len(rest) > 0 && rest[0] == '(' { // the correlator, which may contain a string
		end := bytes.IndexByte(rest, ' ')
		if end < 0 {
			return dst, ErrUntranslatable
		}
		size, ok := stringLen(rest[end+1:])
		if end += 1 + size; !ok || end >= len(rest) || rest[end] != ')' {
			return dst, ErrUntranslatable
		}
		dst = append(dst, rest[:end+1]...)
		if rest = rest[end+1:]; len(rest) > 0 && rest[0] == ' ' {
			dst = append(dst, ' ')
			rest = rest[1:]
		}
	}
	if word, _, _ := bytes.Cut(rest, []byte(" ")); bytes.EqualFold(word, []byte("UID")) {
		return append(dst, rest...), nil
	}
	for len(rest) > 0 {
		name, value, ok := bytes.Cut(rest, []byte(" "))
		if !ok {
			return dst, ErrUntranslatable
		}
		dst = append(append(dst, name...), ' ')
		var err error
		switch string(bytes.ToUpper(name)) {
		case "MIN", "MAX", "ALL":
			set := upToSpace(value)
			if dst, err = n.appendSet(dst, set); err != nil {
				return dst, err
			}
			rest = value[len(set):]
		case "COUNT", "MODSEQ":
			number := upToSpace(value)
			dst = append(dst, number...)
			rest = value[len(number):]
		case "PARTIAL": // (positions messages), (positions NIL)
			end := bytes.IndexByte(value, ')')
			positions, set, ok := bytes.Cut(value[:max(end, 0)], []byte(" "))
			if !ok {
				return dst, ErrUntranslatable
			}
			dst = append(append(dst, positions...), ' ')
			if bytes.EqualFold(set, []byte("NIL")) {
				dst = append(dst, set...)
			} else if dst, err = n.appendSet(dst, set); err != nil {
				return dst, err
			}
			dst = append(dst, ')')
			rest = value[end+1:]
		case "RELEVANCY": // RFC 6203: scores
			end := bytes.IndexByte(value, ')')
			if end < 0 {
				return dst, ErrUntranslatable
			}
			dst = append(dst, value[:end+1]...)
			rest = value[end+1:]
		default:
			return dst, ErrUntranslatable
		}
		if len(rest) > 0 {
			if rest[0] != ' ' || len(rest) == 1 {
				return dst, ErrUntranslatable
			}
			dst = append(dst, ' ')
			rest = rest[1:]
		}
	}
	return dst, nil
}

func upToSpace(b []byte) []byte {
	word, _, _ := bytes.Cut(b, []byte(" "))
	return word
}

// inPlace appends line with the set in its response code translated; the code begins at from.
func (n *SequenceMap) inPlace(dst, line []byte, from int, set []byte) ([]byte, error) {
	at := from + bytes.Index(line[from:], set)
	dst = append(dst, line[:at]...)
	dst, err := n.appendSet(dst, set)
	return append(dst, line[at+len(set):]...), err
}

// appendSet translates a set of the backend's numbers and keeps its order, which is significant in the answer
// to SORT RETURN (RFC 5267 §3).
func (n *SequenceMap) appendSet(dst, set []byte) ([]byte, error) {
	for begin := len(dst); ; {
		element, more, found := bytes.Cut(set, []byte(","))
		low, high, isRange := bytes.Cut(element, []byte(":"))
		if !isRange {
			high = low
		}
		first, r1, ok1 := cutNumber(low)
		last, r2, ok2 := cutNumber(high)
		if !ok1 || !ok2 || len(r1) > 0 || len(r2) > 0 {
			return dst, ErrUntranslatable
		}
		theirs, ok := n.rangeToClient(min(first, last), max(first, last))
		if !ok {
			return dst, ErrNumbers
		}
		for i := range theirs.spans() {
			if len(dst) > begin {
				dst = append(dst, ',')
			}
			if first <= last {
				a, b := theirs.span(i)
				dst = appendRange(dst, a, b)
			} else {
				a, b := theirs.span(theirs.spans() - 1 - i)
				dst = appendRange(dst, b, a)
			}
		}
		if !found {
			return dst, nil
		}
		set = more
	}
}

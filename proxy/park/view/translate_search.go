package view

import (
	"bytes"

	"imapproxy/proxy/wire"
)

// maxSearchDepth bounds how deep parentheses and NOT may be nested.
const maxSearchDepth = 100

// searchArgs copies the arguments of SEARCH, SORT or THREAD with their numbers translated. It rejects search
// keys that it doesn't know, since they could contain numbers. Strings are copied without a look at their
// content.
type searchArgs struct {
	in, out []byte
	numbers SequenceMap
	unknown bool // it failed at an unknown key, which may be valid
	update  bool // RETURN had UPDATE, which was removed
}

// arity returns how many strings follow a search key (RFC 9051 §6.4.4 and the RFCs named).
func arity(key string) (n int, known bool) {
	switch key {
	case "ALL", "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "NEW", "OLD", "RECENT", "SEEN",
		"UNANSWERED", "UNDELETED", "UNDRAFT", "UNFLAGGED", "UNSEEN", "$",
		"SAVEDATESUPPORTED": // RFC 8514
		return 0, true
	case "BCC", "BODY", "CC", "FROM", "SUBJECT", "TEXT", "TO", "KEYWORD", "UNKEYWORD",
		"BEFORE", "ON", "SINCE", "SENTBEFORE", "SENTON", "SENTSINCE", "LARGER", "SMALLER",
		"OLDER", "YOUNGER", // RFC 5032
		"SAVEDBEFORE", "SAVEDON", "SAVEDSINCE", // RFC 8514
		"EMAILID", "THREADID", // RFC 8474
		"FILTER": // RFC 5466
		return 1, true
	case "HEADER":
		return 2, true
	case "ANNOTATION": // RFC 5257
		return 3, true
	}
	return 0, false
}

// program copies all arguments.
func (s *searchArgs) program(verb wire.Verb) bool {
	if s.word("RETURN") && !(s.space() && s.returns() && s.space()) {
		return false
	}
	switch verb {
	case wire.Sort, wire.UIDSort: // RFC 5256
		if !(s.criteria() && s.space() && s.str() && s.space()) {
			return false
		}
	case wire.Thread, wire.UIDThread:
		if !(s.str() && s.space() && s.str() && s.space()) {
			return false
		}
	default:
		if s.word("CHARSET") && !(s.space() && s.str() && s.space()) {
			return false
		}
	}
	return s.keys(0) && len(s.in) == 0
}

// returns copies the options of RETURN (RFC 4731, RFC 5182, RFC 9394). It removes UPDATE (RFC 5267), which
// causes unsolicited numbers later.
func (s *searchArgs) returns() bool {
	if !s.byte('(') {
		return false
	}
	for !s.byte(')') {
		switch option := string(bytes.ToUpper(s.peek())); option {
		case "UPDATE": // removed, with the space before the next option
			s.update = true
			s.in = s.in[len(option):]
			if s.at(')') && s.out[len(s.out)-1] == ' ' {
				s.out = s.out[:len(s.out)-1]
			}
			if s.at(' ') {
				s.in = s.in[1:]
			} else if !s.at(')') {
				return false
			}
			continue
		case "MIN", "MAX", "ALL", "COUNT", "SAVE", "RELEVANCY", "CONTEXT":
			s.take(len(s.peek()))
		case "PARTIAL": // positions in the result, not messages
			s.take(len("PARTIAL"))
			if !(s.space() && s.atom()) {
				return false
			}
		default:
			s.unknown = true
			return false
		}
		if !s.byte(' ') && !s.at(')') {
			return false
		}
	}
	return true
}

// criteria copies the criteria of SORT, which contain only names.
func (s *searchArgs) criteria() bool {
	if !s.byte('(') {
		return false
	}
	for !s.byte(')') {
		if !s.atom() || !s.byte(' ') && !s.at(')') {
			return false
		}
	}
	return true
}

func (s *searchArgs) keys(depth int) bool {
	for {
		if !s.key(depth) {
			return false
		}
		if !s.byte(' ') {
			return true
		}
	}
}

func (s *searchArgs) key(depth int) bool {
	if depth > maxSearchDepth {
		s.unknown = true
		return false
	}
	if s.byte('(') {
		return s.keys(depth+1) && s.byte(')')
	}
	word := s.peek()
	if len(word) == 0 {
		return false
	}
	if c := word[0]; c >= '0' && c <= '9' || c == '*' {
		return s.set(word)
	}
	key := string(bytes.ToUpper(word))
	switch key {
	case "NOT", "FUZZY": // RFC 6203
		s.take(len(word))
		return s.space() && s.key(depth+1)
	case "OR":
		s.take(len(word))
		return s.space() && s.key(depth+1) && s.space() && s.key(depth+1)
	case "UID":
		s.take(len(word))
		return s.space() && s.uids(s.peek())
	case "MODSEQ": // RFC 7162 §3.1.5: with or without an entry name and type
		s.take(len(word))
		if !s.space() {
			return false
		}
		if s.at('"') && !(s.str() && s.space() && s.atom() && s.space()) {
			return false
		}
		return s.atom()
	}
	n, known := arity(key)
	if !known {
		s.unknown = true
		return false
	}
	s.take(len(word))
	for range n {
		if !(s.space() && s.str()) {
			return false
		}
	}
	return true
}

// set translates a set of numbers. Removed messages match nothing; a set whose messages were all removed
// becomes a key that matches nothing.
func (s *searchArgs) set(word []byte) bool {
	numbers, ok := s.numbers.parseNumbers(word)
	if !ok {
		return false
	}
	s.in = s.in[len(word):]
	if numbers, _ = s.numbers.toBackend(numbers); numbers.Empty() {
		s.out = append(s.out, "NOT ALL"...)
		return true
	}
	s.out = numbers.AppendTo(s.out)
	return true
}

func (s *searchArgs) uids(word []byte) bool {
	if string(word) == "$" {
		s.take(1)
		return true
	}
	var ok bool
	s.out, ok = s.numbers.appendUIDSet(s.out, word)
	s.in = s.in[len(word):]
	return ok
}

// peek returns the atom at the front, with the characters that search keys may have.
func (s *searchArgs) peek() []byte {
	if i := bytes.IndexAny(s.in, " ()\"{\r\n"); i >= 0 {
		return s.in[:i]
	}
	return s.in
}

// word copies the given word, in any case, if it is next.
func (s *searchArgs) word(upper string) bool {
	if w := s.peek(); !bytes.EqualFold(w, []byte(upper)) {
		return false
	}
	s.take(len(upper))
	return true
}

func (s *searchArgs) at(c byte) bool { return len(s.in) > 0 && s.in[0] == c }

func (s *searchArgs) byte(c byte) bool {
	if !s.at(c) {
		return false
	}
	s.take(1)
	return true
}

func (s *searchArgs) space() bool { return s.byte(' ') }

func (s *searchArgs) atom() bool {
	w := s.peek()
	s.take(len(w))
	return len(w) > 0
}

// take copies n bytes.
func (s *searchArgs) take(n int) {
	s.out = append(s.out, s.in[:n]...)
	s.in = s.in[n:]
}

// str copies an astring: an atom, a quoted string or a literal with its content.
func (s *searchArgs) str() bool {
	n, ok := stringLen(s.in)
	if ok {
		s.take(n)
	}
	return ok
}

// stringLen returns the length of the astring at the front of b. A literal must have its content after the
// announcement; literal8 is accepted, too.
func stringLen(b []byte) (int, bool) {
	switch {
	case len(b) == 0:
		return 0, false
	case b[0] == '"':
		for i := 1; i < len(b); i++ {
			switch b[i] {
			case '\\':
				i++
			case '"':
				return i + 1, true
			case '\r', '\n':
				return 0, false
			}
		}
		return 0, false
	case b[0] == '{' || b[0] == '~' && len(b) > 1 && b[1] == '{':
		eol := bytes.IndexByte(b, '\n')
		if eol < 0 {
			return 0, false
		}
		spec := b[bytes.IndexByte(b, '{') : eol+1]
		size, _, ok := wire.LiteralSpec(spec)
		if close := bytes.IndexByte(spec, '}'); !ok || bytes.IndexByte(spec[1:], '{') >= 0 || close != len(trimEOL(spec))-1 || size > int64(len(b)-eol-1) {
			return 0, false
		}
		return eol + 1 + int(size), true
	}
	n := bytes.IndexAny(b, " ()\"{\r\n")
	if n < 0 {
		n = len(b)
	}
	return n, n > 0
}

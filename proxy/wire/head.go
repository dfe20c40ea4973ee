package wire

import "bytes"

// Status is the condition of a status response (RFC 9051 §7.1).
type Status uint8

// The five conditions. NoStatus: the response has none (FETCH, EXISTS …).
const (
	NoStatus Status = iota
	OK
	NO
	BAD
	BYE
	PREAUTH
)

var statusNames = [...]string{"", "OK", "NO", "BAD", "BYE", "PREAUTH"}

func (s Status) String() string { return statusNames[s] }

// StatusOf returns the condition that is the first word of b, or NoStatus.
func StatusOf(b []byte) Status {
	switch w := word(b); len(w) {
	case 2:
		switch {
		case foldEq(w, "OK"):
			return OK
		case foldEq(w, "NO"):
			return NO
		}
	case 3:
		switch {
		case foldEq(w, "BAD"):
			return BAD
		case foldEq(w, "BYE"):
			return BYE
		}
	case 7:
		if foldEq(w, "PREAUTH") {
			return PREAUTH
		}
	}
	return NoStatus
}

// Kind is the kind of a response: tagged, untagged or a continuation request.
type Kind uint8

// The kinds of response: tagged, untagged ("*"), continuation request ("+").
const (
	Tagged Kind = iota
	Untagged
	Continue
)

// ResponseHead is the beginning of a response. Its slices point into the parsed bytes.
type ResponseHead struct {
	Kind   Kind
	Tag    []byte // set if Kind is Tagged
	Status Status
	Name   []byte // set if Kind is Untagged and Status is NoStatus: CAPABILITY, EXISTS, FETCH …
	Number uint32 // the number before the name: 3 in "* 3 EXISTS"
	Rest   []byte // the bytes after the status or the name
}

// ParseResponseHead parses the first line of a response.
func ParseResponseHead(b []byte) ResponseHead {
	b = trimEOL(b)
	if len(b) > 0 && b[0] == '+' {
		return ResponseHead{Kind: Continue, Rest: bytes.TrimLeft(b[1:], " ")}
	}
	tag, rest := cut(b)
	if st := StatusOf(rest); st != NoStatus {
		_, after := cut(rest)
		h := ResponseHead{Kind: Tagged, Tag: tag, Status: st, Rest: after}
		if string(tag) == "*" {
			h.Kind, h.Tag = Untagged, nil
		}
		return h
	}
	h := ResponseHead{Kind: Tagged, Tag: tag, Rest: rest}
	if string(tag) != "*" {
		return h
	}
	h.Kind, h.Tag = Untagged, nil
	name, after := cut(rest)
	if n, ok := number(name); ok {
		h.Number = n
		name, after = cut(after)
	}
	h.Name, h.Rest = name, after
	return h
}

// Code returns the response code at the front of a status response's text, and the code's arguments: for
// "[UIDVALIDITY 3] ok" it returns UIDVALIDITY and "3".
func Code(rest []byte) (code, args []byte) {
	if len(rest) == 0 || rest[0] != '[' {
		return nil, nil
	}
	end := bytes.IndexByte(rest, ']')
	if end < 0 {
		end = len(rest)
	}
	return cut(rest[1:end])
}

// CommandHead is the beginning of a command.
type CommandHead struct {
	Tag  []byte
	Verb Verb
	Args []byte // the bytes of the first line after the verb
	OK   bool   // the line has a tag and a word after it
}

// ParseCommandHead parses the first line of a command, or the beginning of that line.
func ParseCommandHead(b []byte) CommandHead {
	b = trimEOL(b)
	tag, rest := cut(b)
	name, args := cut(rest)
	h := CommandHead{Tag: tag, OK: len(tag) > 0 && len(name) > 0}
	if foldEq(name, "UID") {
		sub, after := cut(args)
		h.Verb, h.Args = lookupUID(sub), after
		return h
	}
	h.Verb, h.Args = lookup(name), args
	return h
}

// IsDone says whether a line is the DONE that ends IDLE (RFC 9051 §6.3.13).
func IsDone(line []byte) bool { return foldEq(trimEOL(line), "DONE") }

// IsEmpty says whether a line has no bytes before its line end.
func IsEmpty(line []byte) bool { return len(trimEOL(line)) == 0 }

// ValidTag says whether b is a tag: 1*<any ASTRING-CHAR except "+"> (RFC 9051 §9).
func ValidTag(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f || bytes.IndexByte([]byte(`(){%*"\+`), c) >= 0 {
			return false
		}
	}
	return len(b) > 0
}

func trimEOL(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b
}

// word returns b up to the first space or line end.
func word(b []byte) []byte {
	for i, c := range b {
		if c == ' ' || c == '\r' || c == '\n' {
			return b[:i]
		}
	}
	return b
}

// cut splits b at its first space.
func cut(b []byte) (before, after []byte) {
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

func number(b []byte) (uint32, bool) {
	if len(b) == 0 || len(b) > 10 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return uint32(n), n <= 1<<32-1
}

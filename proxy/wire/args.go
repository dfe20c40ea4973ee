package wire

import (
	"bytes"
	"errors"
)

// ErrSyntax means that the grammar doesn't allow an argument where it stands.
var ErrSyntax = errors.New("syntax error")

// LoginString reads a string at the front of b (a user name, a password, a string of ID) with the leniency
// that Dovecot and Cyrus have before login: more than one space may stand before and after it, and an atom
// may contain every character but control characters, parentheses and '"'. Clients often send passwords with
// * or \ as atoms; Cyrus accepts { inside an atom, too.
func LoginString(b []byte) (s string, rest []byte, err error) {
	b = bytes.TrimLeft(b, " ")
	switch {
	case len(b) == 0:
		return "", nil, ErrSyntax
	case b[0] == '"':
		s, rest, err = quoted(b)
	case b[0] == '{':
		s, rest, err = literal(b)
	default:
		w := word(b)
		for _, c := range w {
			if c < ' ' || c == 0x7f || c == '(' || c == ')' || c == '"' {
				return "", nil, ErrSyntax
			}
		}
		s, rest = string(w), b[len(w):]
	}
	if err != nil || len(rest) > 0 && rest[0] != ' ' {
		return "", nil, ErrSyntax
	}
	return s, bytes.TrimLeft(rest, " "), nil
}

// AString reads an astring (RFC 9051 §9) at the front of b: an atom, a quoted string, or a literal whose
// content follows its announcement, as Reader.Unit returns it. rest is the bytes after the astring and the
// space behind it.
func AString(b []byte) (s string, rest []byte, err error) {
	if len(b) == 0 {
		return "", nil, ErrSyntax
	}
	switch b[0] {
	case '"':
		s, rest, err = quoted(b)
	case '{':
		s, rest, err = literal(b)
	default:
		w := word(b)
		for _, c := range w {
			if c <= ' ' || c == 0x7f || c == '(' || c == ')' || c == '{' || c == '%' || c == '*' || c == '"' || c == '\\' {
				return "", nil, ErrSyntax
			}
		}
		s, rest = string(w), b[len(w):]
	}
	if err != nil {
		return "", nil, err
	}
	if len(rest) > 0 {
		if rest[0] != ' ' {
			return "", nil, ErrSyntax
		}
		rest = rest[1:]
		if len(rest) == 0 {
			return "", nil, ErrSyntax
		}
	}
	return s, rest, nil
}

func quoted(b []byte) (string, []byte, error) {
	var out []byte
	for i := 1; i < len(b); i++ {
		switch c := b[i]; c {
		case '"':
			return string(out), b[i+1:], nil
		case '\\':
			i++
			if i == len(b) || b[i] != '"' && b[i] != '\\' {
				return "", nil, ErrSyntax
			}
			out = append(out, b[i])
		case '\r', '\n', 0:
			return "", nil, ErrSyntax
		default:
			out = append(out, c)
		}
	}
	return "", nil, ErrSyntax
}

func literal(b []byte) (string, []byte, error) {
	for i, c := range b {
		if c != '\n' {
			continue
		}
		n, _, ok := LiteralSpec(b[:i+1])
		if !ok || b[0] != '{' || n > int64(len(b)-i-1) {
			return "", nil, ErrSyntax
		}
		end := i + 1 + int(n)
		return string(b[i+1 : end]), b[end:], nil
	}
	return "", nil, ErrSyntax
}

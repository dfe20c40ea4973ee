package wire

import "bytes"

// ItemName reads the name of a FETCH item at the front of b and the space after it (RFC 9051 §9, msg-att).
// Brackets may contain any bytes: BODY[HEADER.FIELDS ("A" B)]<0>.
func ItemName(b []byte) (name, rest []byte, err error) {
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
				return nil, nil, ErrSyntax
			}
			return b[:i], b[i+1:], nil
		case depth == 0 && (c == '(' || c == ')'):
			return nil, nil, ErrSyntax
		}
	}
	return nil, nil, ErrSyntax
}

// ItemValue reads the value at the front of b: a string, a literal with its content, a list, or other bytes
// up to a space or the end of the enclosing list.
func ItemValue(b []byte) (value, rest []byte, err error) {
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
			return nil, nil, ErrSyntax
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
				return nil, nil, ErrSyntax
			}
			return b[:i], b[i:], nil
		case c == ')':
			depth--
			i++
		default:
			i++
		}
	}
	return nil, nil, ErrSyntax
}

// quotedEnd splits b after the quoted string at its front.
func quotedEnd(b []byte) (s, rest []byte, err error) {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return b[:i+1], b[i+1:], nil
		}
	}
	return nil, nil, ErrSyntax
}

// literalEnd returns the length of the literal at the front of b, announcement included.
func literalEnd(b []byte) (int, error) {
	eol := bytes.IndexByte(b, '\n')
	if eol < 0 {
		return 0, ErrSyntax
	}
	size, _, ok := LiteralSpec(b[:eol+1])
	if !ok || size > int64(len(b)-eol-1) {
		return 0, ErrSyntax
	}
	return eol + 1 + int(size), nil
}

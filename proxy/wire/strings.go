package wire

import "strconv"

// CanQuote says whether s can be sent as a quoted string to any server: 7-bit,
// no CR, LF or NUL (RFC 3501 §9), at most 1,000 bytes.
func CanQuote(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == 0 || c == '\r' || c == '\n' || c >= 0x80 {
			return false
		}
	}
	return len(s) <= 1000
}

// AppendQuoted appends s to dst as a quoted string. The caller has checked CanQuote.
func AppendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

// AppendLiteral appends s as a non-synchronising literal (RFC 7888). With sync it appends only the
// announcement of a synchronising literal; the caller sends the content after the server's continuation
// request.
func AppendLiteral(dst []byte, s string, sync bool) []byte {
	dst = append(dst, '{')
	dst = strconv.AppendInt(dst, int64(len(s)), 10)
	if sync {
		return append(dst, "}\r\n"...)
	}
	dst = append(dst, "+}\r\n"...)
	return append(dst, s...)
}

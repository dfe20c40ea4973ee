package view

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrMailboxName means that a name isn't valid in its encoding. The proxy doesn't guess: the session stays
// attached, and a hint with such a name counts for all mailboxes.
var ErrMailboxName = errors.New("not a mailbox name")

// MaxMailboxName bounds a name, in bytes. It is Dovecot's bound.
const MaxMailboxName = 4096

// imapBase64 is the base64 of modified UTF-7 (RFC 3501 §5.1.3).
var imapBase64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding).Strict()

// DecodeMailbox returns a mailbox's canonical name: UTF-8, INBOX in upper case (RFC 9051 §5.1). name is the
// content of a quoted string or literal. utf8Names says that the connection uses UTF8=ACCEPT (RFC 6855) or
// IMAP4rev2; otherwise names are in modified UTF-7. Names that aren't encoded as RFC 3501 §5.1.3 requires are
// ErrMailboxName, since they could be another encoding of the same name.
func DecodeMailbox(name string, utf8Names bool) (string, error) {
	if len(name) > MaxMailboxName {
		return "", ErrMailboxName
	}
	if !utf8Names {
		var err error
		if name, err = decodeUTF7(name); err != nil {
			return "", err
		}
	}
	return CanonicalMailbox(name)
}

// CanonicalMailbox returns the canonical form of a name in UTF-8, for example of a push event.
func CanonicalMailbox(name string) (string, error) {
	if name == "" || len(name) > MaxMailboxName || !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\r\n") {
		return "", ErrMailboxName
	}
	if strings.EqualFold(name, "INBOX") && isASCII(name) {
		return "INBOX", nil
	}
	return name, nil
}

// EncodeMailbox returns a canonical name in the encoding of a connection, unquoted.
func EncodeMailbox(name string, utf8Names bool) string {
	if utf8Names {
		return name
	}
	return encodeUTF7(name)
}

// isASCII is needed because "ſ" and "K" fold to ASCII letters.
func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func encodeUTF7(name string) string {
	var out strings.Builder
	var shifted []uint16
	flush := func() {
		if len(shifted) == 0 {
			return
		}
		raw := make([]byte, 0, 2*len(shifted))
		for _, u := range shifted {
			raw = append(raw, byte(u>>8), byte(u))
		}
		out.WriteByte('&')
		out.WriteString(imapBase64.EncodeToString(raw))
		out.WriteByte('-')
		shifted = shifted[:0]
	}
	for _, r := range name {
		if r < 0x20 || r > 0x7e {
			shifted = utf16.AppendRune(shifted, r)
			continue
		}
		flush()
		out.WriteRune(r)
		if r == '&' {
			out.WriteByte('-')
		}
	}
	flush()
	return out.String()
}

// decodeUTF7 accepts exactly the output of encodeUTF7: RFC 3501 §5.1.3 forbids encoding printable characters,
// and ending a shift only to begin the next.
func decodeUTF7(name string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(name); {
		c := name[i]
		i++
		if c < 0x20 || c > 0x7e {
			return "", ErrMailboxName
		}
		if c != '&' {
			out.WriteByte(c)
			continue
		}
		end := strings.IndexByte(name[i:], '-')
		if end < 0 {
			return "", ErrMailboxName
		}
		shifted := name[i : i+end]
		i += end + 1
		if shifted == "" {
			out.WriteByte('&')
			continue
		}
		if strings.HasPrefix(name[i:], "&") && !strings.HasPrefix(name[i:], "&-") {
			return "", ErrMailboxName
		}
		if err := unshift(&out, shifted); err != nil {
			return "", err
		}
	}
	return out.String(), nil
}

func unshift(out *strings.Builder, shifted string) error {
	raw, err := imapBase64.DecodeString(shifted)
	if err != nil || len(raw)%2 != 0 || strings.ContainsAny(shifted, "\r\n") {
		return ErrMailboxName
	}
	for i := 0; i < len(raw); i += 2 {
		r := rune(raw[i])<<8 | rune(raw[i+1])
		if utf16.IsSurrogate(r) {
			if i+3 >= len(raw) {
				return ErrMailboxName
			}
			if r = utf16.DecodeRune(r, rune(raw[i+2])<<8|rune(raw[i+3])); r == utf8.RuneError {
				return ErrMailboxName
			}
			i += 2
		}
		if r >= 0x20 && r <= 0x7e {
			return ErrMailboxName
		}
		out.WriteRune(r)
	}
	return nil
}

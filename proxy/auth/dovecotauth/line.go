package dovecotauth

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
)

// maxLine bounds a line from Dovecot, in bytes. Its protocol expects lines to fit into 16 KiB.
const maxLine = 32 << 10

// errProtocol matches what isn't a message of the protocol, or not one that was due.
var errProtocol = errors.New("it doesn't speak Dovecot's auth protocol")

// line is one message: a command, and parameters. An empty parameter has no meaning.
type line []string

// command is the first word.
func (l line) command() string { return l[0] }

// at is the parameter at a place, "" where the line is shorter.
func (l line) at(i int) string {
	if i < len(l) {
		return l[i]
	}
	return ""
}

// field is the value of name=value behind the parameter at from. ok is also true for the word alone.
func (l line) field(from int, name string) (value string, ok bool) {
	for _, f := range l[min(from, len(l)):] {
		if key, value, _ := strings.Cut(f, "="); key == name {
			return value, true
		}
	}
	return "", false
}

// readLine reads one message.
func readLine(r *bufio.Reader) (line, error) {
	text, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("%w: a line of more than %d bytes", errProtocol, maxLine)
	case err != nil:
		return nil, err
	}
	l := line(strings.Split(string(text[:len(text)-1]), "\t"))
	clear(text) // there may be a password in it
	for i, f := range l {
		l[i] = unescape(f)
	}
	return l, nil
}

// escape is the reverse of unescape. A name has no control characters.
func escape(s string) string { return strings.ReplaceAll(s, "\x01", "\x011") }

// unescape undoes Dovecot's escapes: \001 and a character.
func unescape(s string) string {
	if !strings.Contains(s, "\x01") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != 1 || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case '0':
			b.WriteByte(0)
		case '1':
			b.WriteByte(1)
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case 'n', 'l':
			b.WriteByte('\n')
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

package postfix

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
)

// outcome is what became of a lookup. Without a flag, text is the value.
type outcome struct {
	missing, failed, refused bool
	text                     string
}

// protocol is one of the two.
type protocol uint8

const (
	tcpTable  protocol = iota + 1 // tcp_table(5)
	socketmap                     // socketmap_table(5)
)

// maxRequest bounds a request, in bytes: an address has 254 characters, which may be escaped.
const maxRequest = 2 << 10

// mapName is the only map that the socketmap protocol can ask for.
const mapName = "transport"

var (
	errRefused   = errors.New("refused")
	errMalformed = errors.New("neither a tcp_table request nor a netstring")
	errLong      = fmt.Errorf("a request has more than %d bytes", maxRequest)
)

// read reads one request and returns its key. errRefused: the request is whole, and can't be answered.
func read(r *bufio.Reader) (protocol, string, error) {
	first, err := r.Peek(1)
	if err != nil {
		return 0, "", err
	}
	if first[0] >= '0' && first[0] <= '9' {
		key, err := readSocketmap(r)
		return socketmap, key, err
	}
	key, err := readTCPTable(r)
	return tcpTable, key, err
}

// readTCPTable reads `get SPACE key NEWLINE`, where the key has %XX for some characters.
func readTCPTable(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", errLong
	case err != nil:
		return "", err
	}
	verb, key, ok := strings.Cut(strings.TrimSuffix(string(line[:len(line)-1]), "\r"), " ")
	switch {
	case !ok:
		return "", errMalformed
	case verb == "put":
		return "", fmt.Errorf("%w: this table can't be changed", errRefused)
	case verb != "get":
		return "", errMalformed
	}
	key, err = url.PathUnescape(key)
	if err != nil {
		return "", fmt.Errorf("%w: the key's escapes can't be read", errRefused)
	}
	return key, nil
}

// readSocketmap reads the netstring `LENGTH:map SPACE key,`.
func readSocketmap(r *bufio.Reader) (string, error) {
	n := 0
	for digits := 0; ; digits++ {
		c, err := r.ReadByte()
		switch {
		case err != nil:
			return "", err
		case c == ':' && digits > 0:
		case c < '0' || c > '9':
			return "", errMalformed
		default:
			if n = 10*n + int(c-'0'); n > maxRequest {
				return "", errLong
			}
			continue
		}
		break
	}
	b := make([]byte, n+1)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", err
	}
	if b[n] != ',' {
		return "", errMalformed
	}
	name, key, ok := bytes.Cut(b[:n], []byte(" "))
	if !ok || string(name) != mapName {
		return "", fmt.Errorf("%w: ask for the map %q", errRefused, mapName)
	}
	return string(key), nil
}

// answer returns an outcome as the protocol says it.
func (p protocol) answer(o outcome) []byte {
	if p == socketmap {
		word := "OK"
		switch {
		case o.missing:
			word, o.text = "NOTFOUND", ""
		case o.failed:
			word = "TEMP"
		case o.refused:
			word = "PERM"
		}
		text := word + " " + o.text
		return []byte(strconv.Itoa(len(text)) + ":" + text + ",")
	}
	code := "200"
	switch {
	case o.missing, o.refused:
		code = "500"
	case o.failed:
		code = "400"
	}
	return []byte(code + " " + escaped(o.text) + "\n")
}

// escaped returns the text with %XX for the percent sign, white space, and what isn't printable ASCII.
func escaped(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c == '%' || c > '~' {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

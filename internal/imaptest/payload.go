package imaptest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A Payload is content that a transcript sends or expects: a file of the
// archive or a generated message, read as often as wanted.
type Payload struct {
	Size int64
	open func() io.Reader
}

// Open reads the payload from its beginning.
func (p Payload) Open() io.Reader { return p.open() }

// SHA256 is the digest in hex.
func (p Payload) SHA256() string {
	h := sha256.New()
	// a hash never fails, and neither do our readers
	_, _ = io.Copy(h, p.open())
	return hex.EncodeToString(h.Sum(nil))
}

// BytesPayload is a payload of these bytes.
func BytesPayload(b []byte) Payload {
	return Payload{Size: int64(len(b)), open: func() io.Reader { return bytes.NewReader(b) }}
}

// GeneratedMessage is a mail of exactly size bytes (at least 256), the same
// one for the same seed, in lines of 78 bytes ended by CRLF: every server
// gives it back as it was.
func GeneratedMessage(size int64, seed uint64) Payload {
	if size < 256 {
		size = 256
	}
	return Payload{Size: size, open: func() io.Reader {
		return &generator{rest: size, state: seed*2862933555777941757 + 3037000493, line: []byte(fmt.Sprintf(
			"From: Gen <gen@example.org>\r\nTo: all@example.org\r\nSubject: generated %d\r\n"+
				"Message-ID: <gen.%d.%d@example.org>\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\n\r\n", seed, seed, size))}
	}}
}

// generator writes lines of pseudo-random letters; the last line is cut so
// that the whole has the size asked for and ends in CRLF.
type generator struct {
	rest  int64
	state uint64
	line  []byte // made, not yet read
}

func (g *generator) Read(p []byte) (int, error) {
	if g.rest == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && g.rest > 0 {
		if len(g.line) == 0 {
			g.line = g.makeLine()
		}
		m := copy(p[n:], g.line)
		g.line = g.line[m:]
		n += m
		g.rest -= int64(m)
	}
	return n, nil
}

func (g *generator) makeLine() []byte {
	length := int64(78)
	// never leave a remainder of one byte, which could not be a CRLF
	if g.rest <= length+2 {
		length = g.rest
		if length > 78 {
			length -= 40
		}
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	b := make([]byte, length)
	for i := range b {
		g.state = g.state*6364136223846793005 + 1442695040888963407
		b[i] = letters[g.state>>58]
	}
	b[length-2], b[length-1] = '\r', '\n'
	return b
}

// parseGenerated reads "gen:50MB:7"; units B, KB and MB are powers of 1024.
func parseGenerated(name string) (Payload, error) {
	f := strings.Split(name, ":")
	if len(f) < 2 || len(f) > 3 || f[0] != "gen" {
		return Payload{}, fmt.Errorf("%q: want gen:SIZE or gen:SIZE:SEED", name)
	}
	size, err := ParseSize(f[1])
	if err != nil {
		return Payload{}, err
	}
	var seed uint64
	if len(f) == 3 {
		if seed, err = strconv.ParseUint(f[2], 10, 64); err != nil {
			return Payload{}, fmt.Errorf("%q: the seed is a number", name)
		}
	}
	return GeneratedMessage(size, seed), nil
}

// ParseSize reads a size in bytes: "300", "64KB", "50MB" (powers of 1024).
func ParseSize(s string) (int64, error) {
	unit := int64(1)
	digits := s
	for suffix, u := range map[string]int64{"KB": 1 << 10, "MB": 1 << 20} {
		if d, ok := strings.CutSuffix(s, suffix); ok {
			unit, digits = u, d
		}
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(digits, "B"), 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q: want a size such as 300, 64KB or 50MB", s)
	}
	return n * unit, nil
}

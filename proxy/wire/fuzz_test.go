package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"imapproxy/internal/imaptest"
)

// cutsOf makes places to cut n bytes at out of a fuzzer's bytes: distances.
func cutsOf(how []byte, n int) []int {
	var cuts []int
	at := 0
	for _, h := range how {
		if at += int(h); at > n {
			break
		}
		cuts = append(cuts, at)
	}
	return cuts
}

func seedScanner(f *testing.F, more ...string) {
	for _, s := range append(more,
		"a NOOP\r\nb APPEND x {5}\r\nhello\r\n", "a X ~{3+}\r\nabc {0}\r\n\r\n", "a {99999999999999999999}\r\n",
		"a {4294967295}\r\nx", "\n\n\r\n", "a "+strings.Repeat("(", 300)+"\r\n", strings.Repeat("t", 189)+" OK {3}\r\nabc\r\n",
		strings.Repeat("x", 250)+"{3+}\r\nabc\r\n", "a {00000000000000000005}\r\nhello\r\n") {
		f.Add([]byte(s), []byte{1, 1, 2, 3, 5, 8})
		f.Add([]byte(s), bytes.Repeat([]byte{1}, len(s)))
	}
}

// FuzzScannerCommands: however commands are cut up, the same units are found,
// and no byte is lost.
func FuzzScannerCommands(f *testing.F) {
	seedScanner(f, "a LOGIN {5}\r\nalice {3}\r\npwd\r\n", "i IDLE\r\nDONE\r\n")
	f.Fuzz(func(t *testing.T, data, how []byte) {
		sameUnits(t, Commands, data, cutsOf(how, len(data)))
		secondOpinion(t, Commands, data)
	})
}

// FuzzScannerResponses is the same of responses.
func FuzzScannerResponses(f *testing.F) {
	seedScanner(f, "* 1 FETCH (BODY[] {3}\r\nabc)\r\na OK [X {5}] done {9}\r\n", "+ go {3}\r\n* BYE\r\n", "* OK\r\n*\r\n")
	f.Fuzz(func(t *testing.T, data, how []byte) {
		sameUnits(t, Responses, data, cutsOf(how, len(data)))
		secondOpinion(t, Responses, data)
	})
}

// secondOpinion has imaptest's reader, which was written apart from this one,
// read the same bytes, where the two are meant to agree: lines end in CRLF,
// sizes have fewer than 19 digits, and neither lines that begin with "+" nor lines of one word
// announce anything.
func secondOpinion(t *testing.T, dir Direction, data []byte) {
	units, _ := scan(t, dir, data, nil)
	var total int
	for _, u := range units {
		first, _, _ := strings.Cut(u.Text, "\n")
		tag, rest, ok := strings.Cut(strings.TrimSuffix(first, "\r"), " ")
		if !ok || strings.HasPrefix(tag, "+") || len(first) >= MaxHead || (dir == Commands && StatusOf([]byte(rest)) != NoStatus) {
			return
		}
		text := u.Text
		for _, line := range strings.SplitAfter(text, "\n") {
			if line != "" && !strings.HasSuffix(line, "\r\n") || strings.Contains(line, "{0000") || len(line) > 4096 || strings.Contains(line, strings.Repeat("9", 15)) {
				return
			}
		}
		total += len(u.Text) + len(strings.Join(u.Literals, ""))
	}
	c := imaptest.NewConn(&bytesConn{r: bytes.NewReader(data[:total])})
	for i, u := range units {
		r, err := c.Next()
		if err != nil {
			t.Fatalf("unit %d (%v) of %q: the second opinion fails: %v", i, u, data[:total], err)
		}
		if len(r.Literals) != len(u.Literals) {
			t.Fatalf("unit %d of %q: %d literals, by the second opinion %d", i, data[:total], len(u.Literals), len(r.Literals))
		}
		for j, l := range r.Literals {
			if string(l.Data) != u.Literals[j] || l.NoSync == u.Sync[j] {
				t.Fatalf("unit %d literal %d: %q sync=%v, by the second opinion %q sync=%v", i, j, u.Literals[j], u.Sync[j], l.Data, !l.NoSync)
			}
		}
	}
	if r, err := c.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("the second opinion finds more: %v %v", r, err)
	}
}

// bytesConn is a connection that has already said all it will.
type bytesConn struct {
	net.Conn
	r io.Reader
}

func (c *bytesConn) Read(p []byte) (int, error)      { return c.r.Read(p) }
func (c *bytesConn) SetReadDeadline(time.Time) error { return nil }

// readAll reads units until an error that ends the reading, and says what it was.
func readAll(t *testing.T, r io.Reader, maxLine, maxLiteral int) string {
	t.Helper()
	rd := NewReader(r, maxLine, maxLiteral)
	var out strings.Builder
	agreed := 0
	for range 10000 {
		unit, err := rd.Unit(func([]byte) error { agreed++; return nil }, true)
		if len(unit) > maxLine+2*maxLiteral {
			t.Fatalf("a unit of %d bytes, the bound is %d + 2·%d", len(unit), maxLine, maxLiteral)
		}
		if cap(rd.buf) > 2*maxLine+4096 {
			t.Fatalf("a buffer of %d bytes for lines of %d", cap(rd.buf), maxLine)
		}
		fmt.Fprintf(&out, "%q %v %d\n", unit, err, agreed)
		var lit *LiteralError
		if err == nil || errors.As(err, &lit) && lit.Sync {
			continue
		}
		return out.String()
	}
	t.Fatal("no end")
	return ""
}

// FuzzReader: bounded memory whatever is sent, and the same units in whatever
// portions the bytes come.
func FuzzReader(f *testing.F) {
	for _, s := range []string{"a NOOP\r\n", "a LOGIN {3}\r\nabc {3+}\r\ndef\r\n", "a X {4294967295}\r\nb NOOP\r\n", "a X {99+}\r\n",
		strings.Repeat("(", 2000), "a\x00b\r\n", "a {3}\r\na\x00b\r\n", "a {16}\r\n0123456789abcdef{16}\r\n0123456789abcdef{1}\r\n", "\n\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		whole := readAll(t, bytes.NewReader(data), 256, 16)
		for name, r := range map[string]io.Reader{
			"a byte at a time": iotest.OneByteReader(bytes.NewReader(data)),
			"halves":           iotest.HalfReader(bytes.NewReader(data)),
			"end with data":    iotest.DataErrReader(bytes.NewReader(data)),
		} {
			if got := readAll(t, r, 256, 16); got != whole {
				t.Fatalf("%s:\n%s\nwhole:\n%s", name, got, whole)
			}
		}
		rd := NewReader(bytes.NewReader(data), 256, 16)
		for range len(data) + 2 {
			resp, err := rd.ReadResponse()
			if err != nil {
				break
			}
			if len(resp.Line) > 256+32 {
				t.Fatalf("a response of %d bytes", len(resp.Line))
			}
		}
	})
}

// FuzzHead: heads are parsed without panic, into parts of what was given.
func FuzzHead(f *testing.F) {
	for _, s := range []string{"a NOOP", "a UID FETCH 1:* x\r\n", "* OK [CAPABILITY IMAP4rev1] hi", "* 3 EXISTS\r\n", "+", "+ x", "*", "", " ",
		"a OK", "a  LOGIN x", "* 4294967296 EXISTS", "* BYE [X", "UID", "a UID", "a uid\tfetch"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		line := string(b)
		c := ParseCommandHead(b)
		if c.OK && (len(c.Tag) == 0 || !strings.HasPrefix(line, string(c.Tag)+" ")) {
			t.Fatalf("%q: tag %q", b, c.Tag)
		}
		if !strings.Contains(line, string(c.Args)) {
			t.Fatalf("%q: arguments %q", b, c.Args)
		}
		if words := strings.Split(strings.TrimRight(line, "\r\n"), " "); len(words) > 1 && c.Verb != Other {
			name := strings.ToUpper(words[1])
			if name == "UID" {
				name += " " + strings.ToUpper(words[2])
			}
			if name != c.Verb.String() {
				t.Fatalf("%q: %q is taken for %s", b, name, c.Verb)
			}
		}
		h := ParseResponseHead(b)
		code, args := Code(h.Rest)
		for _, part := range [][]byte{h.Tag, h.Name, h.Rest, code, args} {
			if !strings.Contains(line, string(part)) {
				t.Fatalf("%q: part %q", b, part)
			}
		}
		if h.Status != NoStatus && h.Kind == Continue {
			t.Fatalf("%q: a continuation with a status", b)
		}
		r := ParseResponse(b)
		if r.Status != h.Status.String() || (h.Kind == Untagged) != (r.Tag == "*") && r.Tag != "+" && len(h.Tag) == 0 && line != "" {
			t.Fatalf("%q: %+v, %+v", b, h, r)
		}
		IsDone(b)
		ValidTag(b)
		LiteralSpec(b)
	})
}

// FuzzAString: what is read can be written again, in every form, and reads the same.
func FuzzAString(f *testing.F) {
	for _, s := range []string{"alice pw", `"al\"ice" "p\\w"`, "{5}\r\nalice pw", "{5+}\r\nalice", "{99}\r\nx", `"x`, `"\x"`, "{}", "", " a", "a ", `""`, "{0}\r\n", "~{1}\r\nx"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := AString(b)
		if err != nil {
			if !errors.Is(err, ErrSyntax) || s != "" || rest != nil {
				t.Fatalf("%q: %q %q %v", b, s, rest, err)
			}
			return
		}
		if !bytes.HasSuffix(b, rest) || len(rest) == len(b) {
			t.Fatalf("%q: rest %q", b, rest)
		}
		forms := [][]byte{AppendLiteral(nil, s, false)}
		if CanQuote(s) {
			forms = append(forms, AppendQuoted(nil, s))
		}
		for _, form := range forms {
			for _, after := range []string{"", " x"} {
				got, r, err := AString(append(bytes.Clone(form), after...))
				if err != nil || got != s || string(r) != strings.TrimPrefix(after, " ") {
					t.Fatalf("%q, written as %q: %q %q %v", s, form, got, r, err)
				}
			}
		}
	})
}

// FuzzCaps: a list survives being written and read; names are found in any case.
func FuzzCaps(f *testing.F) {
	f.Add([]byte("IMAP4rev1 AUTH=PLAIN  COMPRESS=DEFLATE "))
	f.Add([]byte(""))
	f.Add([]byte("\tX\x00 ]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		caps := ParseCaps(b)
		if again := ParseCaps(caps.Append(nil)); !slices.Equal(again, caps) {
			t.Fatalf("%q: %q, again %q", b, caps, again)
		}
		for _, c := range caps {
			if !caps.Has(c) || !caps.Has(strings.ToLower(c)) && strings.EqualFold(strings.ToLower(c), c) {
				t.Fatalf("%q isn't found", c)
			}
			less := caps.Without(func(name string) bool { return name == c })
			if slices.Contains(less, c) {
				t.Fatalf("%q is still there", c)
			}
		}
		if kept := caps.Without(func(string) bool { return false }); !slices.Equal(kept, caps) {
			t.Fatalf("%q, without nothing %q", caps, kept)
		}
	})
}

package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseCommandHead(t *testing.T) {
	for _, c := range []struct {
		in, tag string
		verb    Verb
		args    string
		ok      bool
	}{
		{"a1 NOOP\r\n", "a1", Noop, "", true},
		{"a1 noop\n", "a1", Noop, "", true},
		{"a1 LOGIN alice pw", "a1", Login, "alice pw", true},
		{"a1 uid Fetch 1:* FLAGS\r\n", "a1", UIDFetch, "1:* FLAGS", true},
		{"a1 UID XYZ 1", "a1", Other, "1", true},
		{"a1 UID", "a1", Other, "", true},
		{"a1 XAOL-MOVE x", "a1", Other, "x", true},
		{"a1 STATUS x (MESSAGES)", "a1", StatusVerb, "x (MESSAGES)", true},
		{"DONE\r\n", "DONE", Other, "", false},
		{"a1 ", "a1", Other, "", false},
		{" NOOP", "", Noop, "", false},
		{"a1  NOOP", "a1", Other, "NOOP", false},
		{"", "", Other, "", false},
	} {
		h := ParseCommandHead([]byte(c.in))
		if string(h.Tag) != c.tag || h.Verb != c.verb || string(h.Args) != c.args || h.OK != c.ok {
			t.Errorf("%q: %q %v %q %v", c.in, h.Tag, h.Verb, h.Args, h.OK)
		}
	}
}

func TestEveryVerbIsFoundByItsName(t *testing.T) {
	for i, name := range Verbs() {
		if name == "OTHER" {
			continue
		}
		if h := ParseCommandHead([]byte("t " + strings.ToLower(name) + " x")); h.Verb != Verb(i) || string(h.Args) != "x" {
			t.Errorf("%s is read as %v %q", name, h.Verb, h.Args)
		}
	}
}

func TestParseResponseHead(t *testing.T) {
	for _, c := range []struct {
		in     string
		kind   Kind
		tag    string
		status Status
		name   string
		number uint32
		rest   string
	}{
		{"* OK ready\r\n", Untagged, "", OK, "", 0, "ready"},
		{"* ok [ALERT] x", Untagged, "", OK, "", 0, "[ALERT] x"},
		{"a1 NO [X] y", Tagged, "a1", NO, "", 0, "[X] y"},
		{"a1 BAD", Tagged, "a1", BAD, "", 0, ""},
		{"* BYE", Untagged, "", BYE, "", 0, ""},
		{"* PREAUTH hi", Untagged, "", PREAUTH, "", 0, "hi"},
		{"* 3 EXISTS\r\n", Untagged, "", NoStatus, "EXISTS", 3, ""},
		{"* 4294967295 FETCH (x)", Untagged, "", NoStatus, "FETCH", 4294967295, "(x)"},
		{"* 4294967296 FETCH (x)", Untagged, "", NoStatus, "4294967296", 0, "FETCH (x)"},
		{"* CAPABILITY IMAP4rev1", Untagged, "", NoStatus, "CAPABILITY", 0, "IMAP4rev1"},
		{"+ go on", Continue, "", NoStatus, "", 0, "go on"},
		{"+\r\n", Continue, "", NoStatus, "", 0, ""},
		{"+abc", Continue, "", NoStatus, "", 0, "abc"},
		{"a1 WHAT x", Tagged, "a1", NoStatus, "", 0, "WHAT x"},
	} {
		h := ParseResponseHead([]byte(c.in))
		if h.Kind != c.kind || string(h.Tag) != c.tag || h.Status != c.status || string(h.Name) != c.name || h.Number != c.number || string(h.Rest) != c.rest {
			t.Errorf("%q: %+v (tag %q, name %q, rest %q)", c.in, h, h.Tag, h.Name, h.Rest)
		}
	}
}

func TestParseResponseTakesTheCodeApart(t *testing.T) {
	for _, c := range []struct{ in, tag, status, code, args, text, name string }{
		{"a1 OK [CAPABILITY IMAP4rev1 IDLE] Logged in", "a1", "OK", "CAPABILITY", "IMAP4rev1 IDLE", "Logged in", ""},
		{"a1 NO [authenticationfailed] no", "a1", "NO", "AUTHENTICATIONFAILED", "", "no", ""},
		{"a1 NO plain [not a code]", "a1", "NO", "", "", "plain [not a code]", ""},
		{"* BYE [UNAVAILABLE", "*", "BYE", "UNAVAILABLE", "", "[UNAVAILABLE", ""},
		{"* ID (\"name\" \"x\")", "*", "", "", "", "(\"name\" \"x\")", "ID"},
		{"+ aGVsbG8=", "+", "", "", "", "aGVsbG8=", ""},
		{"+ ", "+", "", "", "", "", ""},
	} {
		r := ParseResponse([]byte(c.in))
		if r.Tag != c.tag || r.Status != c.status || r.Code != c.code || r.CodeArgs != c.args || r.Text != c.text || r.Name != c.name || string(r.Line) != c.in {
			t.Errorf("%q: %+v", c.in, r)
		}
	}
}

func TestAString(t *testing.T) {
	for _, c := range []struct {
		in, s, rest string
		ok          bool
	}{
		{"alice pw", "alice", "pw", true},
		{"alice", "alice", "", true},
		{"al]ice", "al]ice", "", true},
		{`"a b" c`, "a b", "c", true},
		{`"" x`, "", "x", true},
		{`"a\"b\\c"`, `a"b\c`, "", true},
		{"\"\xc3\xa9\" x", "é", "x", true},
		{"{5}\r\nalice x", "alice", "x", true},
		{"{5+}\r\nalice", "alice", "", true},
		{"{0}\r\n x", "", "x", true},
		{"{3}\r\na\nb x", "a\nb", "x", true},
		{"", "", "", false},
		{"alice ", "", "", false},
		{`"a"b`, "", "", false},
		{`"a`, "", "", false},
		{`"\n"`, "", "", false},
		{"\"a\nb\"", "", "", false},
		{"{}", "", "", false},
		{"{}\r\n", "", "", false},
		{"{6}\r\nalice", "", "", false},
		{"{4}\r\nalice", "", "", false},
		{"a*b", "", "", false},
		{"(a)", "", "", false},
		{"a\x01b", "", "", false},
		{`a"b`, "", "", false},
	} {
		s, rest, err := AString([]byte(c.in))
		if (err == nil) != c.ok || s != c.s || string(rest) != c.rest {
			t.Errorf("%q: %q %q %v", c.in, s, rest, err)
		}
	}
}

func TestTagsAndDone(t *testing.T) {
	for _, s := range []string{"a", "A001", "a.b]c-", "x~"} {
		if !ValidTag([]byte(s)) {
			t.Errorf("%q is a tag", s)
		}
	}
	for _, s := range []string{"", "+", "a+b", "*", "a b", "a\x00", "a\"", "{3}", "a%", "é"} {
		if ValidTag([]byte(s)) {
			t.Errorf("%q is none", s)
		}
	}
	for in, want := range map[string]bool{"DONE\r\n": true, "done\n": true, "Done": true, "DONE \r\n": false, "a DONE": false, "": false} {
		if IsDone([]byte(in)) != want {
			t.Errorf("%q", in)
		}
	}
}

func TestReaderAsksBeforeASynchronisingLiteralOnly(t *testing.T) {
	r := NewReader(strings.NewReader("a LOGIN {5}\r\nalice {3+}\r\npwd\r\nb NOOP\r\n"), 100, 10)
	asked := 0
	unit, err := r.Unit(func([]byte) error { asked++; return nil }, true)
	if err != nil || string(unit) != "a LOGIN {5}\r\nalice {3+}\r\npwd" || asked != 1 {
		t.Fatalf("%q %v, asked %d times", unit, err, asked)
	}
	if !r.HasBuffered() || string(r.Buffered()) != "b NOOP\r\n" {
		t.Fatal("what was read too much of is gone")
	}
}

func TestReaderRefuses(t *testing.T) {
	for _, c := range []struct {
		name, in string
		err      error
	}{
		{"a long line", strings.Repeat("x", 101) + "\r\n", ErrLineTooLong},
		{"a line without end", strings.Repeat("x", 5000), ErrLineTooLong},
		{"lines that are long together", strings.Repeat("{1+}\r\nx", 30) + "\r\n", nil},
		{"a long literal", "a {11}\r\n", ErrLiteralTooLong},
		{"a long non-synchronising literal", "a {11+}\r\n", ErrLiteralTooLong},
		{"4 GiB", "a {4294967295}\r\n", ErrLiteralTooLong},
		{"many literals", "a {10}\r\n0123456789{10}\r\n0123456789{10}\r\n0123456789\r\n", ErrLiteralTooLong},
		{"NUL", "a\x00b\r\n", ErrNUL},
		{"NUL in a literal", "a {3}\r\na\x00b\r\n", ErrNUL},
		{"the end in a line", "a NO", io.ErrUnexpectedEOF},
		{"the end in a literal", "a {9}\r\nabc", io.ErrUnexpectedEOF},
		{"the end", "", io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, in := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
				r := NewReader(in, 100, 10)
				unit, err := r.Unit(func([]byte) error { return nil }, true)
				if c.err == nil {
					if err == nil {
						t.Fatalf("%q is taken", unit)
					}
					continue
				}
				if !errors.Is(err, c.err) {
					t.Fatalf("%v, want %v", err, c.err)
				}
			}
		})
	}
}

func TestReaderIsInStepAfterARefusedLiteral(t *testing.T) {
	r := NewReader(strings.NewReader("a LOGIN {4294967295}\r\nb NOOP\r\n"), 100, 10)
	unit, err := r.Unit(func([]byte) error { t.Fatal("agreed"); return nil }, true)
	var lit *LiteralError
	if !errors.As(err, &lit) || !lit.Sync || lit.Size != 4294967295 || string(ParseCommandHead(unit).Tag) != "a" {
		t.Fatalf("%q %v", unit, err)
	}
	if unit, err = r.Unit(nil, true); err != nil || string(unit) != "b NOOP" {
		t.Fatalf("%q %v", unit, err)
	}
}

func TestReaderDiscardsToTheEndOfALine(t *testing.T) {
	r := NewReader(strings.NewReader(strings.Repeat("x", 5000)+"\r\na NOOP\r\n"), 100, 10)
	if _, err := r.Unit(nil, true); !errors.Is(err, ErrLineTooLong) {
		t.Fatal(err)
	}
	if err := r.DiscardLine(10000); err != nil {
		t.Fatal(err)
	}
	if unit, err := r.Unit(nil, true); err != nil || string(unit) != "a NOOP" {
		t.Fatalf("%q %v", unit, err)
	}
	r = NewReader(strings.NewReader(strings.Repeat("x", 5000)), 100, 10)
	if err := r.DiscardLine(1000); !errors.Is(err, ErrLineTooLong) {
		t.Fatalf("a line without end: %v", err)
	}
}

func TestReadResponseKnowsTextFromLiterals(t *testing.T) {
	in := "* OK is {5}\r\n* ID (\"a\" {3}\r\nb\nc)\r\n+ {3}\r\na1 NO {1}\r\n"
	for _, src := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
		r := NewReader(src, 1000, 100)
		for _, want := range []string{"* OK is {5}", "* ID (\"a\" {3}\r\nb\nc)", "+ {3}", "a1 NO {1}"} {
			got, err := r.ReadResponse()
			if err != nil || !bytes.Equal(got.Line, []byte(want)) {
				t.Fatalf("%q %v, want %q", got.Line, err, want)
			}
		}
		if _, err := r.ReadResponse(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
}

func TestStrings(t *testing.T) {
	for in, want := range map[string]bool{"": true, "abc": true, `a"\`: true, "a\x01": true, "a\r": false, "a\n": false, "a\x00": false, "é": false, strings.Repeat("x", 1001): false} {
		if CanQuote(in) != want {
			t.Errorf("CanQuote(%q)", in)
		}
	}
	if got := string(AppendLiteral(nil, "abc", true)); got != "{3}\r\n" {
		t.Errorf("%q", got)
	}
	if got := string(AppendLiteral([]byte("x "), "abc", false)); got != "x {3+}\r\nabc" {
		t.Errorf("%q", got)
	}
}

package imaptest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReaderJoinsLiteralsAndLeavesStatusTextAlone(t *testing.T) {
	big := strings.Repeat("x", keepLiteral+1)
	in := "* OK {5}\r\n* LIST () NIL {3}\r\na\r\n {2}\r\n\r\n)\r\nt NO [X] see {9}\r\n* 1 FETCH (BODY[] {65537}\r\n" + big + ")\r\n* bare\nLF\r\n* cut {9}\r\nabc"
	for name, src := range map[string]io.Reader{"whole": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in))} {
		t.Run(name, func(t *testing.T) {
			r := newReader(src, true)
			for _, want := range []string{"* OK {5}", `* LIST () NIL {3}<"a\r\n"> {2}<"\r\n">)`, "t NO [X] see {9}", "", "* bare\nLF"} {
				got, err := r.next()
				if err != nil {
					t.Fatal(err)
				}
				if want != "" && got.String() != want {
					t.Errorf("got %q, want %q", got, want)
				}
				if want == "" {
					sum := sha256.Sum256([]byte(big))
					if got.Literals[0].Data != nil || got.Literals[0].SHA256 != hex.EncodeToString(sum[:]) || got.Text != "* 1 FETCH (BODY[] {65537})" {
						t.Errorf("large literal: %v", got)
					}
				}
			}
			if _, err := r.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("cut literal: %v", err)
			}
		})
	}
	r := newReader(strings.NewReader("* "+strings.Repeat("x", maxText+10)), true)
	if _, err := r.next(); !errors.Is(err, ErrTooLong) {
		t.Errorf("endless line: %v", err)
	}
}

func TestPatterns(t *testing.T) {
	files := func(string) (Payload, error) { return BytesPayload([]byte("abc")), nil }
	read := func(s string) Response {
		r, err := newReader(strings.NewReader(s+"\r\n"), true).next()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tc := range []struct {
		pattern, text string
		want          bool
	}{
		{"* {n} EXISTS", "* 12 EXISTS", true},
		{"* {n} EXISTS", "* x EXISTS", false},
		{"* {n} EXISTS", "* 12 EXISTS ", false},
		{"a1 OK", "a1 OK [X] done", true},
		{"a1 OK", "a1 OKAY", false},
		{"a1 OK", "a2 OK x", false},
		{"a1 NO [UNAVAILABLE]", "a1 NO [UNAVAILABLE] later", true},
		{"a1 NO [UNAVAILABLE]", "a1 NO later", false},
		{"a1", "a1 BAD x", true},
		{"*", "* 1 EXISTS", false},
		{"+", "+ go", true},
		{"+", "+", true},
		{"+ idling", "+ idling", true},
		{"* LIST ({*}) {s} ...", `* LIST (\HasNoChildren) "/" INBOX`, true},
		{"* LIST ({*}) {s} {w}", `* LIST () NIL a b`, false},
		{`/\* \d+ (EXISTS|RECENT)/`, "* 3 RECENT", true},
		{`/\d+ EXISTS/`, "* 3 EXISTS", false},
		{"* 1 FETCH (BODY[] {3})", "* 1 FETCH (BODY[] {3}\r\nxyz)", true},
		{"* 1 FETCH (BODY[] {4})", "* 1 FETCH (BODY[] {3}\r\nxyz)", false},
		{"* 1 FETCH (BODY[] {{n}})", "* 1 FETCH (BODY[] {3}\r\nxyz)", true},
		{"* 1 FETCH (BODY[] {{n}}<<F>>)", "* 1 FETCH (BODY[] {3}\r\nabc)", true},
		{"* 1 FETCH (BODY[] {{n}}<<F>>)", "* 1 FETCH (BODY[] {3}\r\nxyz)", false},
		{`* OK [UIDVALIDITY ${v=[0-9]{1,9}}]`, "* OK [UIDVALIDITY 77] x", true},
		{`* OK [UIDVALIDITY ${v=\d+}] y`, "* OK [UIDVALIDITY 77] x", false},
		{`* OK [UIDVALIDITY ${v=\d{1,9}}] ...`, "* OK [UIDVALIDITY 77] x", true},
		{`* X ${known}`, "* X a.c", true},
		{`* X ${known}`, "* X abc", false},
	} {
		p, err := compilePattern(tc.pattern, map[string]string{"known": "a.c"}, files)
		if err != nil {
			t.Errorf("%s: %v", tc.pattern, err)
			continue
		}
		vars, ok := p.match(read(tc.text))
		if ok != tc.want {
			t.Errorf("%q matches %q: %v", tc.pattern, tc.text, ok)
		}
		if strings.Contains(tc.pattern, "${v") && ok && vars["v"] != "77" {
			t.Errorf("captured %v", vars)
		}
	}
	for _, bad := range []string{"* ${x}", "* ${1=a}", "* ${x", "/(/", "* {{n}}<<F>>"} {
		if _, err := compilePattern(bad, nil, nil); err == nil {
			t.Errorf("%q compiles", bad)
		}
	}
}

func TestGeneratedMessagesAreExactAndTheSame(t *testing.T) {
	for size := int64(256); size < 600; size++ {
		b, err := io.ReadAll(GeneratedMessage(size, 3).Open())
		if err != nil || int64(len(b)) != size || !strings.HasSuffix(string(b), "\r\n") {
			t.Fatalf("%d: %d bytes, %v, %q", size, len(b), err, b[len(b)-2:])
		}
		if strings.Count(string(b), "\n") != strings.Count(string(b), "\r\n") {
			t.Fatalf("%d: bare line ends", size)
		}
	}
	a, b := GeneratedMessage(1<<20, 9), GeneratedMessage(1<<20, 9)
	if a.SHA256() != b.SHA256() || a.SHA256() == GeneratedMessage(1<<20, 8).SHA256() {
		t.Error("the seed doesn't decide the content")
	}
	for in, want := range map[string]int64{"5": 5, "64KB": 64 << 10, "50MB": 50 << 20} {
		if n, err := ParseSize(in); err != nil || n != want {
			t.Errorf("%s: %d, %v", in, n, err)
		}
	}
}

package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// unit is what a scanner made of one command or response, with nothing left of
// how its bytes were cut up.
type unit struct {
	Text     string // text and announcements, literals taken out
	Literals []string
	Sync     []bool
}

func (u unit) String() string { return fmt.Sprintf("%q %q %v", u.Text, u.Literals, u.Sync) }

// scan runs a scanner over data cut up at cuts, keeping what it asks to be kept
// as the relay does. rest is what was neither in a whole unit nor lost.
func scan(t testing.TB, dir Direction, data []byte, cuts []int) (units []unit, rest string) {
	t.Helper()
	s := Scanner{Direction: dir}
	var hold []byte
	var u unit
	open := 0 // literals announced, of which content may follow
	var all []byte
	began := false
	for i := 0; i <= len(cuts); i++ {
		from, to := 0, len(data)
		if i > 0 {
			from = cuts[i-1]
		}
		if i < len(cuts) {
			to = cuts[i]
		}
		b := append(hold, data[from:to]...)
		hold = nil
		for len(b) > 0 {
			atStart := s.AtStart()
			p := s.Next(b)
			if p.N == 0 {
				if !atStart || len(b) >= MaxHead {
					t.Fatalf("the scanner wants more than MaxHead, or in the middle of a unit: %d bytes", len(b))
				}
				hold = append([]byte(nil), b...)
				break
			}
			piece := b[:p.N]
			all = append(all, piece...)
			if p.First != atStart {
				t.Fatalf("First is %v at start=%v", p.First, atStart)
			}
			if eol := bytes.IndexByte(b, '\n'); p.First && p.N < MaxHead && p.N != eol+1 {
				t.Fatalf("the first piece has %d bytes, its line %d", p.N, eol+1)
			}
			if p.First {
				began, u, open = true, unit{}, 0
			}
			if p.InLiteral {
				u.Literals[open-1] += string(piece)
			} else {
				u.Text += string(piece)
			}
			if p.Announced {
				u.Literals, u.Sync = append(u.Literals, ""), append(u.Sync, p.Sync)
				open++
				if s.LiteralLeft() != p.Size {
					t.Fatalf("LiteralLeft is %d after an announcement of %d", s.LiteralLeft(), p.Size)
				}
			}
			if p.Last {
				if p.Announced || !s.AtStart() {
					t.Fatal("a last piece announces a literal, or the unit goes on")
				}
				units = append(units, u)
				began = false
			}
			b = b[p.N:]
		}
	}
	if !bytes.Equal(append(all, hold...), data) {
		t.Fatalf("bytes lost: %d of %d", len(all)+len(hold), len(data))
	}
	if began {
		rest = u.String()
	}
	return units, rest + string(hold)
}

// everyCut cuts data before each byte.
func everyCut(n int) []int {
	cuts := make([]int, 0, n)
	for i := 1; i < n; i++ {
		cuts = append(cuts, i)
	}
	return cuts
}

func sameUnits(t testing.TB, dir Direction, data []byte, cuts []int) {
	t.Helper()
	want, wantRest := scan(t, dir, data, nil)
	got, gotRest := scan(t, dir, data, cuts)
	if fmt.Sprint(got) != fmt.Sprint(want) || gotRest != wantRest {
		t.Fatalf("cut at %v:\n got  %v rest %q\n want %v rest %q", cuts, got, gotRest, want, wantRest)
	}
}

func TestScannerFindsUnitsAndTheirLiterals(t *testing.T) {
	long := strings.Repeat("x", 3*MaxHead)
	for _, c := range []struct {
		name string
		dir  Direction
		in   string
		want []unit
		rest string
	}{
		{"a command", Commands, "a NOOP\r\n", []unit{{Text: "a NOOP\r\n"}}, ""},
		{"two in one read", Commands, "a NOOP\r\nb CHECK\r\n", []unit{{Text: "a NOOP\r\n"}, {Text: "b CHECK\r\n"}}, ""},
		{"bare LF ends a line", Commands, "a NOOP\nb NOOP\n", []unit{{Text: "a NOOP\n"}, {Text: "b NOOP\n"}}, ""},
		{"an empty line is a unit", Commands, "\r\na NOOP\r\n", []unit{{Text: "\r\n"}, {Text: "a NOOP\r\n"}}, ""},
		{"synchronising literal", Commands, "a X {3}\r\nabc y\r\n", []unit{{"a X {3}\r\n y\r\n", []string{"abc"}, []bool{true}}}, ""},
		{"non-synchronising literal", Commands, "a X {3+}\r\nabc\r\n", []unit{{"a X {3+}\r\n\r\n", []string{"abc"}, []bool{false}}}, ""},
		{"literal8", Commands, "a X ~{3+}\r\na\x00c\r\n", []unit{{"a X ~{3+}\r\n\r\n", []string{"a\x00c"}, []bool{false}}}, ""},
		{"empty literal", Commands, "a X {0}\r\n\r\nb Y\r\n", []unit{{"a X {0}\r\n\r\n", []string{""}, []bool{true}}, {Text: "b Y\r\n"}}, ""},
		{"commands inside a literal are none", Commands, "a X {14+}\r\nb LOGIN x y\r\n\n\r\n", []unit{{"a X {14+}\r\n\r\n", []string{"b LOGIN x y\r\n\n"}, []bool{false}}}, ""},
		{"several literals", Commands, "a X {1+}\r\n1{2+}\r\n22 {3}\r\n333\r\n", []unit{{"a X {1+}\r\n{2+}\r\n {3}\r\n\r\n", []string{"1", "22", "333"}, []bool{false, false, true}}}, ""},
		{"a literal ending in an announcement", Commands, "a X {5+}\r\n{9}\r\n\r\nb Y\r\n", []unit{{"a X {5+}\r\n\r\n", []string{"{9}\r\n"}, []bool{false}}, {Text: "b Y\r\n"}}, ""},
		{"no announcement: braces elsewhere", Commands, "a X {3} \r\nb {}\r\nc {+}\r\nd {-1}\r\ne {3+ }\r\nf 3}\r\n",
			[]unit{{Text: "a X {3} \r\n"}, {Text: "b {}\r\n"}, {Text: "c {+}\r\n"}, {Text: "d {-1}\r\n"}, {Text: "e {3+ }\r\n"}, {Text: "f 3}\r\n"}}, ""},
		{"a size beyond 2^63 is none", Commands, "a {9223372036854775808}\r\nb {99999999999999999999}\r\n", []unit{{Text: "a {9223372036854775808}\r\n"}, {Text: "b {99999999999999999999}\r\n"}}, ""},
		{"the command isn't over", Commands, "a NOOP\r\nb NO", []unit{{Text: "a NOOP\r\n"}}, "b NO"},
		{"a long line", Commands, "a " + long + " {2+}\r\nhi\r\n", []unit{{"a " + long + " {2+}\r\n\r\n", []string{"hi"}, []bool{false}}}, ""},
		{"responses have literals", Responses, "* 1 FETCH (BODY[] {3}\r\nabc)\r\n", []unit{{"* 1 FETCH (BODY[] {3}\r\n)\r\n", []string{"abc"}, []bool{true}}}, ""},
		{"text for people has none", Responses, "* OK {3}\r\na NO is it {4}\r\n* BYE {5}\r\n+ go {6}\r\n* PREAUTH {7}\r\n* bad {1}\r\n",
			[]unit{{Text: "* OK {3}\r\n"}, {Text: "a NO is it {4}\r\n"}, {Text: "* BYE {5}\r\n"}, {Text: "+ go {6}\r\n"}, {Text: "* PREAUTH {7}\r\n"}, {Text: "* bad {1}\r\n"}}, ""},
		{"a status's lookalike has some", Responses, "* OKAY {1}\r\nx\r\n* 3 OK {1}\r\ny\r\n", []unit{{"* OKAY {1}\r\n\r\n", []string{"x"}, []bool{true}}, {"* 3 OK {1}\r\n\r\n", []string{"y"}, []bool{true}}}, ""},
		{"the head decides, however much more is seen", Responses, strings.Repeat("t", MaxHead-2) + " OK {3}\r\nabc\r\n",
			[]unit{{strings.Repeat("t", MaxHead-2) + " OK {3}\r\n\r\n", []string{"abc"}, []bool{true}}}, ""},
		{"what isn't a response is text", Responses, "garbage{3}\r\n", []unit{{Text: "garbage{3}\r\n"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, rest := scan(t, c.dir, []byte(c.in), nil)
			if fmt.Sprint(got) != fmt.Sprint(c.want) || rest != c.rest {
				t.Fatalf("\n got  %v rest %q\n want %v rest %q", got, rest, c.want, c.rest)
			}
			sameUnits(t, c.dir, []byte(c.in), everyCut(len(c.in)))
			for i := 1; i < len(c.in); i++ {
				sameUnits(t, c.dir, []byte(c.in), []int{i})
			}
		})
	}
}

func TestScannerSkipsAndAbandons(t *testing.T) {
	var s Scanner
	p := s.Next([]byte("a APPEND x {1000}\r\n"))
	if !p.Announced || !p.Sync || p.Size != 1000 {
		t.Fatalf("%+v", p)
	}
	s.Skip(400)
	if s.LiteralLeft() != 600 {
		t.Fatalf("%d left", s.LiteralLeft())
	}
	s.Skip(600)
	if p = s.Next([]byte("\r\n")); !p.Last || p.InLiteral {
		t.Fatalf("%+v", p)
	}
	s.Next([]byte("a APPEND x {1000}\r\n"))
	s.Abandon()
	if p = s.Next([]byte("b NOOP\r\n")); !p.First || !p.Last || !s.AtStart() {
		t.Fatalf("%+v", p)
	}
	s = Scanner{Direction: Responses}
	s.Next([]byte("* X {5}\r\n"))
	s.Abandon()
	if s.Direction != Responses {
		t.Fatal("Abandon turned the scanner round")
	}
}

// made is a generated, well-formed stream and what a scanner must find in it.
func made(rng *rand.Rand, dir Direction) (stream []byte, want []unit) {
	word := func() string {
		const letters = "abcXYZ019.{}+~()\"\\% "
		b := make([]byte, 1+rng.IntN(12))
		for i := range b {
			b[i] = letters[rng.IntN(len(letters))]
		}
		if rng.IntN(20) == 0 {
			return string(b) + strings.Repeat("y", rng.IntN(3*MaxHead)) + "."
		}
		return string(b) + "." // so that it is no announcement
	}
	for range 1 + rng.IntN(8) {
		var u unit
		head, text := "t"+fmt.Sprint(rng.IntN(99))+" FETCH ", false
		if dir == Responses {
			head = []string{"* 1 FETCH ", "* LIST ", "* OK ", "x1 NO ", "+ ", "* VANISHED "}[rng.IntN(6)]
			text = head == "* OK " || head == "x1 NO " || head == "+ "
		}
		line := head + word()
		if text && rng.IntN(2) == 0 {
			line += "{12}"
		}
		if !text {
			for range rng.IntN(4) {
				content := make([]byte, rng.IntN(50))
				for i := range content {
					content[i] = "\r\n{}0123 abc\x00"[rng.IntN(13)]
				}
				mark := []string{"{%d}\r\n", "{%d+}\r\n", "~{%d}\r\n"}[rng.IntN(3)]
				u.Text += line + fmt.Sprintf(mark, len(content))
				stream = append(stream, line...)
				stream = append(stream, fmt.Sprintf(mark, len(content))...)
				stream = append(stream, content...)
				u.Literals, u.Sync = append(u.Literals, string(content)), append(u.Sync, !strings.Contains(mark, "+"))
				line = word()
			}
		}
		u.Text += line + "\r\n"
		stream = append(append(stream, line...), "\r\n"...)
		want = append(want, u)
	}
	return stream, want
}

func TestScannerFindsWhatWasPutIn(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 7))
		dir := Direction(seed % 2)
		stream, want := made(rng, dir)
		cuts := make([]int, rng.IntN(20))
		for i := range cuts {
			cuts[i] = rng.IntN(len(stream) + 1)
		}
		slices.Sort(cuts)
		got, rest := scan(t, dir, stream, cuts)
		if rest != "" || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("seed %d\n in   %q\n got  %v rest %q\n want %v", seed, stream, got, rest, want)
		}
	}
}

func BenchmarkScanner(b *testing.B) {
	for _, c := range []struct {
		name string
		dir  Direction
		in   string
	}{
		{"NOOP", Commands, "a1 NOOP\r\n"},
		{"FetchLines", Responses, strings.Repeat("* 12 FETCH (UID 34 FLAGS (\\Seen) MODSEQ (12345))\r\n", 100)},
		{"Literal64K", Responses, "* 1 FETCH (BODY[] {65000}\r\n" + strings.Repeat("x", 65000) + ")\r\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			in := []byte(c.in)
			s := Scanner{Direction: c.dir}
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				for rest := in; len(rest) > 0; {
					rest = rest[s.Next(rest).N:]
				}
			}
		})
	}
}

func TestScannerAllocatesNothing(t *testing.T) {
	in := []byte("a1 APPEND x {3+}\r\nabc\r\na2 NOOP\r\n")
	var s Scanner
	if n := testing.AllocsPerRun(100, func() {
		for rest := in; len(rest) > 0; {
			p := s.Next(rest)
			if p.First {
				ParseCommandHead(rest[:p.N])
			}
			rest = rest[p.N:]
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

package view

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestRender reads testdata/render: a view, a state, and what a client is told of it
// in each dialect, also where EXPUNGE has to wait (.now and .owed), and after ENABLE UIDONLY
// (-uidonly), where it hasn't.
func TestRender(t *testing.T) {
	files, err := filepath.Glob("testdata/render/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			ar := txtar.Parse(b)
			parts := map[string]string{}
			for _, f := range ar.Files {
				parts[f.Name] = strings.ReplaceAll(string(f.Data), "\n", "\r\n")
			}
			s := readState(t, parts["view"])
			v := &View{UIDs: s.UIDs, Flags: s.FlagList, ModSeq: s.ModSeq, UIDNext: s.UIDNext}
			d, err := Compare(v, readState(t, parts["state"]))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range ar.Files {
				name, which, _ := strings.Cut(f.Name, ".")
				name, uidOnly := strings.CutSuffix(name, "-uidonly")
				dialect, ok := map[string]Dialect{"plain": Plain, "condstore": CondStore, "qresync": QResync}[name]
				if !ok {
					continue
				}
				now, owed := d.Split(dialect)
				tell, view := d, v
				switch which {
				case "now":
					tell = now
				case "owed":
					tell, view = owed, v.After(now)
				}
				if got := string(tell.AppendTo(nil, dialect, view)); !uidOnly && got != parts[f.Name] {
					t.Errorf("%s:\n%swant:\n%s", f.Name, got, parts[f.Name])
				}
				for _, size := range []int{1, 30, 300, 1 << 20} {
					piecesAre(t, tell, dialect, uidOnly, view, size, parts[f.Name])
				}
			}
		})
	}
}

// piecesAre checks that a difference in pieces is want, in whole lines, none of them held back.
func piecesAre(t *testing.T, d Difference, dialect Dialect, uidOnly bool, v *View, size int, want string) {
	t.Helper()
	var all []byte
	var last int
	for piece := range d.Pieces(dialect, uidOnly, v, size) {
		if len(all) > 0 && last < size {
			t.Errorf("a piece of %d bytes isn't the last, with a size of %d", last, size)
		}
		if last = len(piece); last > 0 && !bytes.HasSuffix(piece, []byte("\r\n")) {
			t.Errorf("%q ends within a line", piece)
		}
		all = append(all, piece...)
	}
	if string(all) != want {
		t.Errorf("pieces of %d:\n%swant:\n%s", size, all, want)
	}
	for piece := range d.Pieces(dialect, uidOnly, v, 1) {
		if len(piece) > 0 {
			break // who has enough is given no more
		}
	}
}

// readState reads "key value" lines.
func readState(t *testing.T, text string) *State {
	t.Helper()
	s := &State{}
	number := func(v string) uint64 {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	flags := func(v string) Flags {
		f, err := ParseFlags([]byte(v))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "uids":
			var err error
			if s.UIDs, err = ParseUIDs([]byte(value)); err != nil {
				t.Fatal(err)
			}
		case "uidnext":
			s.UIDNext = uint32(number(value))
		case "modseq":
			s.ModSeq = number(value)
		case "since":
			s.Since = number(value)
		case "flags":
			s.FlagList = flags(value)
		case "changed":
			f := strings.SplitN(value, " ", 3)
			s.Changed = append(s.Changed, FlagChange{UID: uint32(number(f[0])), ModSeq: number(f[1]), Flags: flags(f[2])})
		default:
			t.Fatal(line)
		}
	}
	return s
}

// Ten thousand holes don't make one line of 60 KB.
func TestVanishedIsToldInSeveralLines(t *testing.T) {
	all := UIDRange(1, 20000)
	var odd []uint32
	for u := uint32(1); u <= 20000; u += 2 {
		odd = append(odd, u)
	}
	gone := UIDsOf(odd...)
	told := Difference{Vanished: gone}.AppendTo(nil, QResync, &View{UIDs: all})
	var union UIDs
	for line := range bytes.Lines(told) {
		if len(line) > maxVanished+50 {
			t.Fatalf("a line of %d bytes", len(line))
		}
		s, err := ParseUIDs(bytes.TrimSuffix(bytes.TrimPrefix(line, []byte("* VANISHED ")), []byte("\r\n")))
		if err != nil || !s.Intersect(union).Empty() {
			t.Fatalf("%s: %v", line, err)
		}
		union = union.Union(s)
	}
	if !union.Equal(gone) {
		t.Fatal("not all, or too many")
	}
}

func TestModSeqsAreClamped(t *testing.T) {
	for _, tc := range []struct {
		line  string
		bound uint64
		want  string
	}{
		{"* OK [HIGHESTMODSEQ 8] Highest\r\n", 9, "* OK [HIGHESTMODSEQ 8] Highest\r\n"},
		{"* OK [HIGHESTMODSEQ 8] Highest\r\n", 8, "* OK [HIGHESTMODSEQ 8] Highest\r\n"},
		{"* OK [HIGHESTMODSEQ 8] Highest\r\n", 7, "* OK [HIGHESTMODSEQ 7] Highest\r\n"},
		{"a1 OK [highestmodseq 18446744073709551615] done [x]\r\n", 7, "a1 OK [HIGHESTMODSEQ 7] done [x]\r\n"},
		{"a1 OK [HIGHESTMODSEQ 99999999999999999999] done\r\n", 7, "a1 OK [HIGHESTMODSEQ 7] done\r\n"},
		{"a1 OK [HIGHESTMODSEQ 8] done\r\n", 0, "a1 OK done\r\n"},
		{"a[1 OK [HIGHESTMODSEQ 8] done\r\n", 7, "a[1 OK [HIGHESTMODSEQ 7] done\r\n"},
		{"a1 OK [HIGHESTMODSEQ 8]\r\n", 0, "a1 OK Done\r\n"},
		{"a1 OK [HIGHESTMODSEQ 8", 7, "a1 OK [HIGHESTMODSEQ 8"},
		{"a1 OK [COPYUID 1 2 3] HIGHESTMODSEQ 9\r\n", 7, "a1 OK [COPYUID 1 2 3] HIGHESTMODSEQ 9\r\n"},
		{"* 8 FETCH (X \"[HIGHESTMODSEQ 8]\")\r\n", 7, "* 8 FETCH (X \"[HIGHESTMODSEQ 8]\")\r\n"},
		{"+ [HIGHESTMODSEQ 8]\r\n", 7, "+ [HIGHESTMODSEQ 8]\r\n"},
	} {
		if got := string(ClampModSeq(nil, []byte(tc.line), tc.bound)); got != tc.want {
			t.Errorf("%q to %d: %q, want %q", tc.line, tc.bound, got, tc.want)
		}
	}
}

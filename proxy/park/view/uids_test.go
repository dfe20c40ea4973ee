package view

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// few draws UIDs that are close together, so that sets overlap and touch; now and then the
// highest ones, where arithmetic ends.
var few = rapid.Custom(func(t *rapid.T) []uint32 {
	uids := rapid.SliceOf(rapid.Uint32Range(1, 60)).Draw(t, "low")
	if rapid.Bool().Draw(t, "edge") {
		uids = append(uids, rapid.SliceOf(rapid.Uint32Range(1<<32-10, 1<<32-1)).Draw(t, "high")...)
	}
	return uids
})

// naive is a set as slow as can be.
func naive(uids []uint32) []uint32 {
	out := slices.Clone(uids)
	slices.Sort(out)
	return slices.Compact(out)
}

func only(uids []uint32, keep func(uint32) bool) []uint32 {
	var out []uint32
	for _, u := range uids {
		if keep(u) {
			out = append(out, u)
		}
	}
	return out
}

// isSet checks everything that can be asked of s.
func isSet(t interface{ Fatalf(string, ...any) }, what string, s UIDs, want []uint32) {
	if got := slices.Collect(s.All()); !slices.Equal(got, want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
	if int(s.Count()) != len(want) || s.Empty() != (len(want) == 0) {
		t.Fatalf("%s: count %d of %v", what, s.Count(), want)
	}
	for i, u := range want {
		if got, ok := s.At(uint32(i + 1)); !ok || got != u {
			t.Fatalf("%s: At(%d) = %d, %v of %v", what, i+1, got, ok, want)
		}
		if got, ok := s.Seq(u); !ok || got != uint32(i+1) {
			t.Fatalf("%s: Seq(%d) = %d, %v of %v", what, u, got, ok, want)
		}
	}
	for _, n := range []uint32{0, uint32(len(want)) + 1, 1<<32 - 1} {
		if u, ok := s.At(n); ok {
			t.Fatalf("%s: At(%d) = %d of %d", what, n, u, len(want))
		}
	}
	for u := uint32(0); u < 70; u++ {
		if s.Contains(u) != slices.Contains(want, u) {
			t.Fatalf("%s: Contains(%d) of %v", what, u, want)
		}
	}
	var before uint32
	for first, last := range s.Ranges() {
		if last < first || before != 0 && first <= before+1 {
			t.Fatalf("%s: range %d:%d behind %d", what, first, last, before)
		}
		before = last
	}
	if len(want) == 0 {
		if s != (UIDs{}) {
			t.Fatalf("%s: an empty set that isn't the zero value: %+v", what, s)
		}
		return
	}
	if s.First() != want[0] || s.Last() != want[len(want)-1] {
		t.Fatalf("%s: %d to %d of %v", what, s.First(), s.Last(), want)
	}
	back, err := ParseUIDs(s.AppendTo(nil))
	if err != nil || !back.Equal(s) || !s.Equal(back) {
		t.Fatalf("%s: %s read again is %s, %v", what, s, back, err)
	}
}

func TestUIDsAreWhatSlicesAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := few.Draw(t, "x"), few.Draw(t, "y")
		a, b := UIDsOf(x...), UIDsOf(y...)
		nx, ny := naive(x), naive(y)
		isSet(t, "x", a, nx)
		isSet(t, "union", a.Union(b), naive(append(slices.Clone(nx), ny...)))
		isSet(t, "intersect", a.Intersect(b), only(nx, func(u uint32) bool { return slices.Contains(ny, u) }))
		isSet(t, "without", a.Without(b), only(nx, func(u uint32) bool { return !slices.Contains(ny, u) }))
		if a.Equal(b) != slices.Equal(nx, ny) {
			t.Fatalf("Equal of %v and %v", nx, ny)
		}
		at := rapid.OneOf(rapid.Uint32Range(0, 65), rapid.Uint32Range(1<<32-12, 1<<32-1)).Draw(t, "at")
		isSet(t, "from", a.From(at), only(nx, func(u uint32) bool { return u >= at }))
		isSet(t, "below", a.Below(at), only(nx, func(u uint32) bool { return u < at }))

		var picked, numbers []uint32
		for i, u := range nx {
			if slices.Contains(ny, uint32(i+1)) {
				picked = append(picked, u)
			}
			if slices.Contains(ny, u) {
				numbers = append(numbers, uint32(i+1))
			}
		}
		isSet(t, "pick", a.pick(b), picked)
		isSet(t, "numbers", a.numbers(b), numbers)
		isSet(t, "as it was", a, nx)
	})
}

func TestUIDsAreParsedInAnyOrder(t *testing.T) {
	for in, want := range map[string]string{
		"1":                     "1",
		"1:3":                   "1:3",
		"3:1":                   "1:3",
		"4,2,3":                 "2:4",
		"1:5,3,2:9":             "1:9",
		"7:9,1:2":               "1:2,7:9",
		"4294967295,1":          "1,4294967295",
		"1:4294967295,5":        "1:4294967295",
		"5:5":                   "5",
		"4294967294:4294967295": "4294967294:4294967295",
	} {
		got, err := ParseUIDs([]byte(in))
		if err != nil || got.String() != want {
			t.Errorf("%s: %s, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "01", "1,", ",1", "1:", ":1", "1::2", "1:2:3", "*", "1:*", " 1", "1 ", "4294967296", "99999999999", "1,,2", "-1", "1\r\n", "$"} {
		if got, err := ParseUIDs([]byte(in)); err != ErrUIDSet {
			t.Errorf("%q: %s, %v", in, got, err)
		}
	}
}

func TestUIDsAreBounded(t *testing.T) {
	var b []byte
	for i := range maxRanges + 1 {
		b = append(strconv.AppendInt(b, int64(2*i+1), 10), ',')
	}
	b = b[:len(b)-1]
	if _, err := ParseUIDs(b); err != ErrManyRanges {
		t.Fatal(err)
	}
	if s, err := ParseUIDs(b[:strings.LastIndexByte(string(b), ',')]); err != nil || s.Count() != maxRanges {
		t.Fatal(s.Count(), err)
	}
}

// A hundred thousand parked clients have a set each.
func TestUIDsAreSmall(t *testing.T) {
	if size := unsafe.Sizeof(UIDs{}); size > 16 {
		t.Errorf("%d bytes", size)
	}
	if n := testing.AllocsPerRun(100, func() {
		s := UIDRange(1, 10000)
		if u, ok := s.Without(UIDRange(9000, 10000)).At(5); u != 5 || !ok {
			t.Error(u)
		}
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseUIDs(f *testing.F) {
	for _, s := range []string{"1:3,7", "4294967295:1", "2,4:6,5", "1:*", "1,,2", "0"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseUIDs(b)
		if err != nil {
			return
		}
		for _, c := range b {
			if !strings.ContainsRune("0123456789,:", rune(c)) {
				t.Fatalf("%q was taken", b)
			}
		}
		back, err := ParseUIDs(s.AppendTo(nil))
		if err != nil || !back.Equal(s) {
			t.Fatalf("%q is %s, read again %s, %v", b, s, back, err)
		}
		for element := range strings.SplitSeq(string(b), ",") {
			low, high, found := strings.Cut(element, ":")
			if !found {
				high = low
			}
			for _, end := range []string{low, high} {
				if n, err := strconv.ParseUint(end, 10, 32); err != nil || !s.Contains(uint32(n)) {
					t.Fatalf("%q is %s, without %s", b, s, end)
				}
			}
		}
	})
}

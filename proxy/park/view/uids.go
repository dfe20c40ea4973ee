package view

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"sort"
	"strconv"
)

// UIDs is an ordered set of UIDs, immutable and shared: the messages of a mailbox in
// the order of their numbers. The zero value is the empty set.
//
// It is kept small, since every parked client has one: 16 bytes and nothing
// else where the UIDs have no hole, beyond that 8 bytes a hole.
type UIDs struct {
	first, count uint32
	more         *uidSpans // nil where there is one range at most
}

// uidSpans are the ranges of a set that has several, and behind them one that
// only says how many UIDs there are in all.
type uidSpans []uidSpan

// uidSpan is a range's first UID, and how many UIDs come before it in the set. Its last
// one follows from the next span.
type uidSpan struct {
	first, before uint32
}

// What ParseUIDs refuses.
var (
	ErrUIDSet     = errors.New("not a set of UIDs")
	ErrManyRanges = errors.New("set of UIDs has too many ranges")
)

// maxRanges bounds what one set may take of memory: 8 MB.
const maxRanges = 1 << 20

// UIDsOf makes the set of these UIDs, in any order. 0 isn't one and is left out.
func UIDsOf(uids ...uint32) UIDs {
	if !slices.IsSorted(uids) {
		uids = slices.Clone(uids)
		slices.Sort(uids)
	}
	var b uidBuilder
	for _, u := range uids {
		if u != 0 {
			b.add(u, u)
		}
	}
	return b.set()
}

// UIDRange makes the set of first:last, empty where that is none.
func UIDRange(first, last uint32) UIDs {
	if first == 0 || last < first {
		return UIDs{}
	}
	return UIDs{first: first, count: last - first + 1}
}

// ParseUIDs reads a sequence-set of digits, "," and ":" (RFC 9051 §9, without
// "*"), its ranges in any order and overlapping or not. Its errors are ErrUIDSet
// and, for more than 1,048,576 ranges, ErrManyRanges.
func ParseUIDs(b []byte) (UIDs, error) {
	var ranges [][2]uint32
	sorted := true
	for {
		first, rest, ok := cutNumber(b)
		if !ok {
			return UIDs{}, ErrUIDSet
		}
		last := first
		if len(rest) > 0 && rest[0] == ':' {
			if last, rest, ok = cutNumber(rest[1:]); !ok {
				return UIDs{}, ErrUIDSet
			}
		}
		if last < first {
			first, last = last, first
		}
		if n := len(ranges); n > 0 && ranges[n-1][0] > first {
			sorted = false
		}
		if len(ranges) == maxRanges {
			return UIDs{}, ErrManyRanges
		}
		ranges = append(ranges, [2]uint32{first, last})
		if len(rest) == 0 {
			break
		}
		if rest[0] != ',' {
			return UIDs{}, ErrUIDSet
		}
		b = rest[1:]
	}
	return fromRanges(ranges, sorted), nil
}

// fromRanges makes a set of ranges, which it may put in order.
func fromRanges(ranges [][2]uint32, sorted bool) UIDs {
	if !sorted {
		slices.SortFunc(ranges, func(a, b [2]uint32) int { return cmp.Compare(a[0], b[0]) })
	}
	var b uidBuilder
	for _, r := range ranges {
		b.add(r[0], r[1])
	}
	return b.set()
}

// cutNumber reads an nz-number (RFC 9051 §9) at the front of b.
func cutNumber(b []byte) (n uint32, rest []byte, ok bool) {
	var v uint64
	i := 0
	for i < len(b) && i < 11 && b[i] >= '0' && b[i] <= '9' {
		v = v*10 + uint64(b[i]-'0')
		i++
	}
	if i == 0 || b[0] == '0' || v > 1<<32-1 {
		return 0, nil, false
	}
	return uint32(v), b[i:], true
}

// Count is the number of UIDs.
func (s UIDs) Count() uint32 { return s.count }

// Empty says whether there is none.
func (s UIDs) Empty() bool { return s.count == 0 }

// First is the lowest UID, 0 of an empty set.
func (s UIDs) First() uint32 { return s.first }

// Last is the highest UID, 0 of an empty set.
func (s UIDs) Last() uint32 {
	if s.count == 0 {
		return 0
	}
	_, last := s.span(s.spans() - 1)
	return last
}

// spans is the number of ranges.
func (s UIDs) spans() int {
	switch {
	case s.count == 0:
		return 0
	case s.more == nil:
		return 1
	}
	return len(*s.more) - 1
}

// span is the i'th range.
func (s UIDs) span(i int) (first, last uint32) {
	if s.more == nil {
		return s.first, s.first + s.count - 1
	}
	m := *s.more
	return m[i].first, m[i].first + (m[i+1].before - m[i].before) - 1
}

// before is the number of UIDs in front of the i'th range.
func (s UIDs) before(i int) uint32 {
	if s.more == nil {
		return 0
	}
	return (*s.more)[i].before
}

// At returns the UID of the message with number seq, from 1 on.
func (s UIDs) At(seq uint32) (uid uint32, ok bool) {
	if seq == 0 || seq > s.count {
		return 0, false
	}
	i := sort.Search(s.spans(), func(i int) bool { return s.before(i) >= seq }) - 1
	first, _ := s.span(i)
	return first + (seq - 1 - s.before(i)), true
}

// Seq returns the number, from 1 on, of the message with this UID.
func (s UIDs) Seq(uid uint32) (seq uint32, ok bool) {
	i := s.find(uid)
	if i < 0 {
		return 0, false
	}
	first, last := s.span(i)
	if uid > last {
		return 0, false
	}
	return s.before(i) + (uid - first) + 1, true
}

// find returns the last range that begins at uid or before, -1 where none does.
func (s UIDs) find(uid uint32) int {
	return sort.Search(s.spans(), func(i int) bool { f, _ := s.span(i); return f > uid }) - 1
}

// Contains says whether uid is in the set.
func (s UIDs) Contains(uid uint32) bool {
	_, ok := s.Seq(uid)
	return ok
}

// Ranges goes through the set's ranges, ascending; between two of them at least one
// UID is missing.
func (s UIDs) Ranges() iter.Seq2[uint32, uint32] {
	return func(yield func(first, last uint32) bool) {
		for i := range s.spans() {
			if !yield(s.span(i)) {
				return
			}
		}
	}
}

// All goes through the UIDs, ascending.
func (s UIDs) All() iter.Seq[uint32] {
	return func(yield func(uid uint32) bool) {
		for first, last := range s.Ranges() {
			for u := first; ; u++ {
				if !yield(u) {
					return
				}
				if u == last {
					break
				}
			}
		}
	}
}

// Equal says whether both are the same set.
func (s UIDs) Equal(o UIDs) bool {
	if s.count != o.count || s.first != o.first || s.spans() != o.spans() {
		return false
	}
	return s.more == nil || s.more == o.more || slices.Equal(*s.more, *o.more)
}

// AppendTo adds the set to dst as a sequence-set, "1:3,7". An empty set has no
// such form and adds nothing.
func (s UIDs) AppendTo(dst []byte) []byte {
	begin := len(dst)
	for first, last := range s.Ranges() {
		if len(dst) > begin {
			dst = append(dst, ',')
		}
		dst = appendRange(dst, first, last)
	}
	return dst
}

func appendRange(dst []byte, first, last uint32) []byte {
	dst = strconv.AppendUint(dst, uint64(first), 10)
	if last != first {
		dst = append(dst, ':')
		dst = strconv.AppendUint(dst, uint64(last), 10)
	}
	return dst
}

// String is for people: the sequence-set.
func (s UIDs) String() string { return string(s.AppendTo(nil)) }

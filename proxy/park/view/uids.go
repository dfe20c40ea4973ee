package view

import (
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

// length is the number of UIDs in the i'th range.
func (s UIDs) length(i int) uint32 {
	first, last := s.span(i)
	return last - first + 1
}

// findNumber is the range that the message with this number is in.
func (s UIDs) findNumber(number uint32) int {
	lo, hi := 0, s.spans()
	for lo < hi {
		if mid := (lo + hi) / 2; s.before(mid)+s.length(mid) < number {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

package view

import (
	"errors"
	"iter"
	"slices"
	"sort"
	"strconv"
)

// UIDs is an ordered set of UIDs, immutable and shared: the messages of a mailbox in the order of their
// numbers. The zero value is the empty set.
//
// It is small, since every parked client has one: 16 bytes if the UIDs are consecutive, and 8 more bytes for
// each gap.
type UIDs struct {
	first, count uint32
	more         *uidSpans // nil if there is at most one range
}

// uidSpans are the ranges of a set that has several. The last element only has the number of all UIDs.
type uidSpans []uidSpan

// uidSpan has a range's first UID and the number of the set's UIDs before it. The next span determines the
// range's last UID.
type uidSpan struct {
	first, before uint32
}

// ParseUIDs returns these errors.
var (
	ErrUIDSet     = errors.New("not a set of UIDs")
	ErrManyRanges = errors.New("set of UIDs has too many ranges")
)

// Count returns the number of UIDs.
func (s UIDs) Count() uint32 { return s.count }

// Empty says whether the set is empty.
func (s UIDs) Empty() bool { return s.count == 0 }

// First returns the lowest UID, 0 of an empty set.
func (s UIDs) First() uint32 { return s.first }

// Last returns the highest UID, 0 of an empty set.
func (s UIDs) Last() uint32 {
	if s.count == 0 {
		return 0
	}
	_, last := s.span(s.spans() - 1)
	return last
}

// spans returns the number of ranges.
func (s UIDs) spans() int {
	switch {
	case s.count == 0:
		return 0
	case s.more == nil:
		return 1
	}
	return len(*s.more) - 1
}

// span returns the range with index i.
func (s UIDs) span(i int) (first, last uint32) {
	if s.more == nil {
		return s.first, s.first + s.count - 1
	}
	m := *s.more
	return m[i].first, m[i].first + (m[i+1].before - m[i].before) - 1
}

// before returns the number of UIDs before the range with index i.
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

// find returns the index of the last range that begins at uid or before, -1 if there is none.
func (s UIDs) find(uid uint32) int {
	return sort.Search(s.spans(), func(i int) bool { f, _ := s.span(i); return f > uid }) - 1
}

// Contains says whether uid is in the set.
func (s UIDs) Contains(uid uint32) bool {
	_, ok := s.Seq(uid)
	return ok
}

// Ranges iterates over the set's ranges, ascending. Between two ranges at least one UID is missing.
func (s UIDs) Ranges() iter.Seq2[uint32, uint32] {
	return func(yield func(first, last uint32) bool) {
		for i := range s.spans() {
			if !yield(s.span(i)) {
				return
			}
		}
	}
}

// All iterates over the UIDs, ascending.
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

// Equal says whether both sets are the same.
func (s UIDs) Equal(o UIDs) bool {
	if s.count != o.count || s.first != o.first || s.spans() != o.spans() {
		return false
	}
	return s.more == nil || s.more == o.more || slices.Equal(*s.more, *o.more)
}

// AppendTo appends the set as a sequence-set, "1:3,7". For an empty set, which has no such form, it appends
// nothing.
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

// String returns the sequence-set.
func (s UIDs) String() string { return string(s.AppendTo(nil)) }

// length returns the number of UIDs in the range with index i.
func (s UIDs) length(i int) uint32 {
	first, last := s.span(i)
	return last - first + 1
}

// findNumber returns the index of the range that contains the message with this number.
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

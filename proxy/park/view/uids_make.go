package view

import (
	"cmp"
	"slices"
)

// uidBuilder makes a set of ranges that are added in the order of their first UIDs.
type uidBuilder struct {
	ranges [][2]uint32 // no two are adjacent
}

func (b *uidBuilder) add(first, last uint32) {
	if n := len(b.ranges); n > 0 {
		if r := &b.ranges[n-1]; r[1] == 1<<32-1 || first <= r[1]+1 {
			r[1] = max(r[1], last)
			return
		}
	}
	b.ranges = append(b.ranges, [2]uint32{first, last})
}

func (b *uidBuilder) set() UIDs {
	switch len(b.ranges) {
	case 0:
		return UIDs{}
	case 1:
		return UIDRange(b.ranges[0][0], b.ranges[0][1])
	}
	spans := make(uidSpans, 0, len(b.ranges)+1)
	var before uint32
	for _, r := range b.ranges {
		spans = append(spans, uidSpan{first: r[0], before: before})
		before += r[1] - r[0] + 1
	}
	spans = append(spans, uidSpan{before: before})
	return UIDs{first: spans[0].first, count: before, more: &spans}
}

// UIDsOf returns the set of these UIDs, in any order. 0 isn't a UID and is left out.
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

// UIDRange returns the set first:last; it is empty if first is 0 or last < first.
func UIDRange(first, last uint32) UIDs {
	if first == 0 || last < first {
		return UIDs{}
	}
	return UIDs{first: first, count: last - first + 1}
}

// ParseUIDs parses a sequence-set without "*" (RFC 9051 §9). The ranges may be in any order and may overlap.
// Its errors are ErrUIDSet and, for more than 1,048,576 ranges, ErrManyRanges.
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

// fromRanges returns the set of these ranges, which it may reorder.
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

// maxRanges bounds the memory of one set: 8 MB.
const maxRanges = 1 << 20

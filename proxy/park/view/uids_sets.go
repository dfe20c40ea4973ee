package view

// Union returns the UIDs that are in s or o.
func (s UIDs) Union(o UIDs) UIDs {
	if s.Empty() {
		return o
	}
	if o.Empty() {
		return s
	}
	var b uidBuilder
	i, j := 0, 0
	for i < s.spans() || j < o.spans() {
		if j == o.spans() {
			b.add(s.span(i))
			i++
			continue
		}
		if i == s.spans() {
			b.add(o.span(j))
			j++
			continue
		}
		sf, sl := s.span(i)
		of, ol := o.span(j)
		if sf <= of {
			b.add(sf, sl)
			i++
		} else {
			b.add(of, ol)
			j++
		}
	}
	return b.set()
}

// meet calls found for each range of numbers that a range of s and one of o have in common, in order. scale
// returns the bounds of the range of s with index i: its UIDs, or its message numbers.
func (s UIDs) meet(o UIDs, scale func(i int) (first, last uint32), found func(i int, first, last uint32)) {
	for i, j := 0, 0; i < s.spans() && j < o.spans(); {
		sf, sl := scale(i)
		of, ol := o.span(j)
		if first, last := max(sf, of), min(sl, ol); first <= last {
			found(i, first, last)
		}
		if sl < ol {
			i++
		} else {
			j++
		}
	}
}

// Intersect returns the UIDs that are in both s and o.
func (s UIDs) Intersect(o UIDs) UIDs {
	var b uidBuilder
	s.meet(o, s.span, func(_ int, first, last uint32) { b.add(first, last) })
	return b.set()
}

// Without returns the UIDs that are in s and not in o.
func (s UIDs) Without(o UIDs) UIDs {
	if s.Empty() || o.Empty() {
		return s
	}
	var b uidBuilder
	j := 0
	for first, last := range s.Ranges() {
		for ; j < o.spans(); j++ {
			of, ol := o.span(j)
			if of > last {
				break
			}
			if ol < first {
				continue
			}
			if of > first {
				b.add(first, of-1)
			}
			if ol >= last {
				first = 0 // nothing is left
				break
			}
			first = ol + 1
		}
		if first != 0 {
			b.add(first, last)
		}
	}
	return b.set()
}

// From returns the UIDs of s that are uid or higher.
func (s UIDs) From(uid uint32) UIDs {
	if uid <= s.first {
		return s
	}
	return s.Intersect(UIDRange(uid, 1<<32-1))
}

// Below returns the UIDs of s that are lower than uid.
func (s UIDs) Below(uid uint32) UIDs {
	if uid == 0 {
		return UIDs{}
	}
	return s.Intersect(UIDRange(1, uid-1))
}

// pick returns the UIDs that have these numbers in s; numbers beyond its count are ignored.
func (s UIDs) pick(numbers UIDs) UIDs {
	var b uidBuilder
	scale := func(i int) (first, last uint32) { return s.before(i) + 1, s.before(i) + s.length(i) }
	s.meet(numbers, scale, func(i int, first, last uint32) {
		uid, _ := s.span(i)
		low := s.before(i) + 1
		b.add(uid+(first-low), uid+(last-low))
	})
	return b.set()
}

// numbers returns the numbers that these UIDs have in s; UIDs that aren't in s are ignored.
func (s UIDs) numbers(uids UIDs) UIDs {
	var b uidBuilder
	s.meet(uids, s.span, func(i int, first, last uint32) {
		uid, _ := s.span(i)
		low := s.before(i) + 1
		b.add(low+(first-uid), low+(last-uid))
	})
	return b.set()
}

// Bridge returns the ranges from one UID of s to another between which all has no UIDs but those of s: they have the
// same members of all, and are fewer than those of s. s is a subset of all.
func (s UIDs) Bridge(all UIDs) UIDs {
	var b uidBuilder
	for first, last := range all.numbers(s).Ranges() {
		from, _ := all.At(first)
		to, _ := all.At(last)
		b.add(from, to)
	}
	return b.set()
}

package view

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"strconv"
)

// maxVanished is the approximate maximum length of a VANISHED line, in bytes. Longer sets are split.
const maxVanished = 8000

// AppendTo appends the untagged responses that tell d to a client with view v, with their line ends. They may
// be sent only at a response boundary, and, if d has expunges, only where RFC 9051 §7.5.1 allows EXPUNGE.
//
// Expunges come first, so that all other numbers are those of the view after d. VANISHED comes before FETCH:
// otherwise a client that loses its connection in between would resynchronise from a mod-sequence after the
// expunges, and never learn of them (RFC 7162 §3.2.10). FETCH with MODSEQ comes in the order of the
// mod-sequences for the same reason. FLAGS comes before a FETCH that uses a new keyword.
func (d Difference) AppendTo(dst []byte, dialect Dialect, v *View) []byte {
	r := rendering{b: dst, size: math.MaxInt}
	r.difference(d, dialect, v)
	return r.b
}

// Pieces is AppendTo in pieces of whole lines, so that a large difference isn't in memory as text. Each piece
// has about size bytes; the last one has fewer and may be empty. A piece is valid until the next one; the
// last one belongs to the caller. uidOnly: the client has enabled UIDONLY (RFC 9586), so its responses name
// messages by UID only.
func (d Difference) Pieces(dialect Dialect, uidOnly bool, v *View, size int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		r := rendering{size: size, yield: yield, uidOnly: uidOnly}
		r.difference(d, dialect, v)
		if !r.stopped {
			yield(r.b)
		}
	}
}

// rendering is the text of a difference while it is made.
type rendering struct {
	b       []byte
	size    int // the length from which on a piece is complete
	yield   func([]byte) bool
	uidOnly bool
	stopped bool
}

// line is called after each line. It returns false to stop.
func (r *rendering) line() bool {
	if len(r.b) >= r.size {
		r.stopped = !r.yield(r.b)
		r.b = r.b[:0]
	}
	return !r.stopped
}

func (r *rendering) difference(d Difference, dialect Dialect, v *View) {
	after := d.uids(v)
	if dialect == QResync || r.uidOnly {
		r.vanished(d.Vanished)
	} else {
		r.expunges(d.Vanished, v.UIDs)
	}
	if r.stopped {
		return
	}
	if !d.New.Empty() {
		r.b = appendNumbered(r.b, after.Count(), "EXISTS")
	}
	if d.FlagList != "" {
		r.b = append(r.b, "* FLAGS "...)
		r.b = d.FlagList.AppendTo(r.b)
		r.b = append(r.b, "\r\n"...)
	}
	for _, c := range d.inOrder(dialect) {
		if seq, ok := after.Seq(c.UID); ok {
			if r.uidOnly {
				r.b = c.appendByUID(r.b, dialect)
			} else {
				r.b = c.appendTo(r.b, dialect, seq)
			}
			if !r.line() {
				return
			}
		}
	}
}

// inOrder returns Changed in the order in which it is told.
func (d Difference) inOrder(dialect Dialect) []FlagChange {
	byModSeq := func(a, b FlagChange) int { return cmp.Compare(a.ModSeq, b.ModSeq) }
	if dialect == Plain || slices.IsSortedFunc(d.Changed, byModSeq) {
		return d.Changed
	}
	changed := slices.Clone(d.Changed)
	slices.SortStableFunc(changed, byModSeq)
	return changed
}

func appendNumbered(dst []byte, n uint32, name string) []byte {
	dst = append(dst, "* "...)
	dst = strconv.AppendUint(dst, uint64(n), 10)
	dst = append(dst, ' ')
	dst = append(dst, name...)
	return append(dst, "\r\n"...)
}

// expunges tells the highest number first, so that no EXPUNGE shifts another (RFC 9051 §7.5.1).
func (r *rendering) expunges(vanished, view UIDs) {
	for i := vanished.spans() - 1; i >= 0; i-- {
		first, last := vanished.span(i)
		// The client counts all UIDs of the range, so their numbers are a range, too.
		seq, ok := view.Seq(last)
		for n := last - first + 1; ok && n > 0; n-- {
			r.b = appendNumbered(r.b, seq, "EXPUNGE")
			seq--
			if !r.line() {
				return
			}
		}
	}
}

// RFC 7162 §3.2.10.
func (r *rendering) vanished(vanished UIDs) {
	line := len(r.b)
	open := false
	for first, last := range vanished.Ranges() {
		switch {
		case !open:
			r.b = append(r.b, "* VANISHED "...)
			open = true
		default:
			r.b = append(r.b, ',')
		}
		r.b = appendRange(r.b, first, last)
		if len(r.b)-line > maxVanished {
			r.b = append(r.b, "\r\n"...)
			if !r.line() {
				return
			}
			line, open = len(r.b), false
		}
	}
	if open {
		r.b = append(r.b, "\r\n"...)
	}
}

// RFC 9051 §7.5.2, RFC 7162 §3.1.4 and §3.2.4: with mod-sequences, FETCH has the UID as well. An unknown
// mod-sequence is left out.
func (c FlagChange) appendTo(dst []byte, dialect Dialect, seq uint32) []byte {
	dst = append(dst, "* "...)
	dst = strconv.AppendUint(dst, uint64(seq), 10)
	dst = append(dst, " FETCH ("...)
	if dialect != Plain {
		dst = append(dst, "UID "...)
		dst = strconv.AppendUint(dst, uint64(c.UID), 10)
		dst = append(dst, ' ')
	}
	return c.appendFlags(dst, dialect)
}

// RFC 9586 §3.3: the UID stands before UIDFETCH and isn't repeated.
func (c FlagChange) appendByUID(dst []byte, dialect Dialect) []byte {
	dst = append(dst, "* "...)
	dst = strconv.AppendUint(dst, uint64(c.UID), 10)
	dst = append(dst, " UIDFETCH ("...)
	return c.appendFlags(dst, dialect)
}

// appendFlags appends the rest of a FETCH response.
func (c FlagChange) appendFlags(dst []byte, dialect Dialect) []byte {
	dst = append(dst, "FLAGS "...)
	dst = c.Flags.AppendTo(dst)
	if dialect != Plain && c.ModSeq != 0 {
		dst = append(dst, " MODSEQ ("...)
		dst = strconv.AppendUint(dst, c.ModSeq, 10)
		dst = append(dst, ')')
	}
	return append(dst, ")\r\n"...)
}

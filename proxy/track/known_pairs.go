package track

import (
	"slices"
	"sort"

	"imapproxy/proxy/park/view"
)

// maxKnownRuns bounds the runs of messages that are remembered: of one map of flags, and of pairs.
const maxKnownRuns = 128

// pairs has the UIDs of a client's messages, as far as responses had both number and UID: data that names a
// message by number can then be recorded by UID. It takes 12 bytes for each run of messages with consecutive
// UIDs. The zero value is empty.
type pairs struct {
	runs []pair
	// lost: the UIDs of some messages were told and aren't recorded here any more.
	lost bool
}

// pair says that the n messages from number on have the UIDs from uid on.
type pair struct{ number, uid, n uint32 }

// pairsOf returns the pairs of the messages that a client counts.
func pairsOf(uids view.UIDs) (p pairs) {
	number := uint32(1)
	for first, last := range uids.Ranges() {
		if len(p.runs) == maxKnownRuns {
			p.lose()
			return p
		}
		p.runs = append(p.runs, pair{number, first, last - first + 1})
		number += last - first + 1
	}
	return p
}

// told returns all pairs, in order.
func (p *pairs) told() (told []view.Told) {
	for _, r := range p.runs {
		told = append(told, view.Told{Number: r.number, UID: r.uid, N: r.n})
	}
	return told
}

// lose empties p; UIDs that were told are lost.
func (p *pairs) lose() { p.runs, p.lost = p.runs[:0], true }

// clear empties p, of whose messages no UID is needed any more.
func (p *pairs) clear() { p.runs, p.lost = p.runs[:0], false }

// find returns the first run that doesn't end before number.
func (p *pairs) find(number uint32) int {
	return sort.Search(len(p.runs), func(i int) bool { return p.runs[i].number+p.runs[i].n > number })
}

// uid returns a message's UID; 0: it isn't known.
func (p *pairs) uid(number uint32) uint32 {
	if i := p.find(number); i < len(p.runs) && p.runs[i].number <= number {
		return p.runs[i].uid + number - p.runs[i].number
	}
	return 0
}

// put records the UID of a number.
func (p *pairs) put(number, uid uint32) {
	if n := len(p.runs); n > 0 { // most FETCH responses name the messages in order
		switch r := &p.runs[n-1]; {
		case number < r.number || uid-r.uid != number-r.number:
		case number < r.number+r.n:
			return
		case number == r.number+r.n:
			r.n++
			return
		}
	}
	switch was := p.uid(number); {
	case p.lost || was == uid:
		return
	case was != 0:
		p.lose()
		return
	}
	i := p.find(number)
	if i > 0 && p.runs[i-1].number+p.runs[i-1].n == number && p.runs[i-1].uid+p.runs[i-1].n == uid {
		p.runs[i-1].n++
		return
	}
	if len(p.runs) == maxKnownRuns {
		p.lose()
		return
	}
	p.runs = slices.Insert(p.runs, i, pair{number, uid, 1})
}

// gone removes a number: higher ones decrease by one.
func (p *pairs) gone(number uint32) {
	i := p.find(number)
	if i < len(p.runs) && p.runs[i].number <= number {
		r := p.runs[i]
		before := number - r.number
		after := pair{number + 1, r.uid + before + 1, r.n - before - 1}
		switch {
		case before > 0 && after.n > 0 && len(p.runs) == maxKnownRuns:
			p.lose()
			return
		case before > 0 && after.n > 0:
			p.runs[i].n = before
			p.runs = slices.Insert(p.runs, i+1, after)
			i++
		case before > 0:
			p.runs[i].n = before
			i++
		case after.n > 0:
			p.runs[i] = after
		default:
			p.runs = slices.Delete(p.runs, i, i+1)
		}
	}
	for ; i < len(p.runs); i++ {
		p.runs[i].number--
	}
}

// each calls f with the ranges of known UIDs of the messages first to last. UIDs between two consecutive
// messages, which no message has, are included.
func (p *pairs) each(first, last uint32, f func(first, last uint32)) {
	for i := p.find(first); i < len(p.runs) && p.runs[i].number <= last; i++ {
		r := p.runs[i]
		a, b := max(first, r.number), min(last, r.number+r.n-1)
		till := r.uid + b - r.number
		if i+1 < len(p.runs) && b < last && p.runs[i+1].number == b+1 {
			till = p.runs[i+1].uid - 1
		}
		f(r.uid+a-r.number, till)
	}
}

package track

import (
	"slices"
	"sort"

	"imapproxy/proxy/park/view"
)

// pairs says which UIDs a client's messages have, as far as it was told both: what it is told, or
// says, by number is then known by UID. It takes 12 bytes for each run of messages whose UIDs
// follow each other. The zero value knows of none.
type pairs struct {
	runs []pair
	// lost: there are messages whose UIDs were told and aren't known here any more.
	lost bool
}

// pair says that n messages from number on have the UIDs from uid on.
type pair struct{ number, uid, n uint32 }

// pairsOf are those of messages that a client counts.
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

// lose forgets all of them, though there may be more to know.
func (p *pairs) lose() { p.runs, p.lost = p.runs[:0], true }

// clear forgets all of them, and there is nothing to know.
func (p *pairs) clear() { p.runs, p.lost = p.runs[:0], false }

// find is the first run that doesn't end before a number.
func (p *pairs) find(number uint32) int {
	return sort.Search(len(p.runs), func(i int) bool { return p.runs[i].number+p.runs[i].n > number })
}

// uid is a message's; 0: it isn't known.
func (p *pairs) uid(number uint32) uint32 {
	if i := p.find(number); i < len(p.runs) && p.runs[i].number <= number {
		return p.runs[i].uid + number - p.runs[i].number
	}
	return 0
}

// put takes note of one that was told.
func (p *pairs) put(number, uid uint32) {
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

// gone takes a number away: those behind it move down.
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

// each goes through the ranges of UIDs that are known of the messages first to last. Those between
// two messages that follow each other, which nothing has, are in them.
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

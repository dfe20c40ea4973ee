package view

import (
	"slices"
	"sort"
)

// Runs maps messages, by number or by UID, to sets, which are indexes of a list. It takes 12 bytes for each
// run of consecutive messages with the same set. The zero value is empty.
type Runs struct{ runs []idRun }

type idRun struct {
	first, last uint32
	set         uint8
}

// Len returns the number of runs.
func (r *Runs) Len() int { return len(r.runs) }

// Clear removes all runs and keeps their memory.
func (r *Runs) Clear() { r.runs = r.runs[:0] }

// find returns the index of the first run that doesn't end before id.
func (r *Runs) find(id uint32) int {
	return sort.Search(len(r.runs), func(i int) bool { return r.runs[i].last >= id })
}

// Of returns the set of a message.
func (r *Runs) Of(id uint32) (set uint8, ok bool) {
	if i := r.find(id); i < len(r.runs) && r.runs[i].first <= id {
		return r.runs[i].set, true
	}
	return 0, false
}

// Cut removes the sets of first to last, and returns the index at which a run that begins with first belongs.
func (r *Runs) Cut(first, last uint32) int {
	i := r.find(first)
	j := i
	for j < len(r.runs) && r.runs[j].first <= last {
		j++
	}
	if i == j {
		return i
	}
	var keep [2]idRun
	n, at := 0, i
	if left := r.runs[i]; left.first < first {
		left.last = first - 1
		keep[n], at = left, i+1
		n++
	}
	if right := r.runs[j-1]; right.last > last {
		right.first = last + 1
		keep[n] = right
		n++
	}
	r.runs = slices.Replace(r.runs, i, j, keep[:n]...)
	return at
}

// Put sets the set of the messages first to last.
func (r *Runs) Put(first, last uint32, set uint8) {
	i := r.Cut(first, last)
	if i > 0 && r.runs[i-1].set == set && r.runs[i-1].last == first-1 {
		i--
		first = r.runs[i].first
		r.runs = slices.Delete(r.runs, i, i+1)
	}
	if i < len(r.runs) && r.runs[i].set == set && r.runs[i].first-1 == last {
		r.runs[i].first = first
		return
	}
	r.runs = slices.Insert(r.runs, i, idRun{first, last, set})
}

// Change replaces the sets of those messages from first to last that have one.
func (r *Runs) Change(first, last uint32, to func(set uint8) uint8) {
	for at := first; ; {
		i := r.find(at)
		if i == len(r.runs) || r.runs[i].first > last {
			return
		}
		a, b, set := max(at, r.runs[i].first), min(last, r.runs[i].last), r.runs[i].set
		if now := to(set); now != set {
			r.Put(a, b, now)
		}
		if b >= last {
			return
		}
		at = b + 1
	}
}

// Gone removes a number: higher numbers decrease by one. The number of runs doesn't grow.
func (r *Runs) Gone(n uint32) {
	i := r.Cut(n, n)
	for j := i; j < len(r.runs); j++ {
		r.runs[j].first--
		r.runs[j].last--
	}
	if i > 0 && i < len(r.runs) && r.runs[i-1].set == r.runs[i].set && r.runs[i-1].last+1 == r.runs[i].first {
		r.runs[i-1].last = r.runs[i].last
		r.runs = slices.Delete(r.runs, i, i+1)
	}
}

// Halve removes the lower half of the runs, which belong to the older messages.
func (r *Runs) Halve() { r.runs = slices.Delete(r.runs, 0, (len(r.runs)+1)/2) }

// Each calls f with each run in ascending order.
func (r *Runs) Each(f func(first, last uint32, set uint8)) {
	for _, run := range r.runs {
		f(run.first, run.last, run.set)
	}
}

// KnownFlags are the flags of a message as a client knows them. ModSeq is the mod-sequence that the client
// was told with them, if it is higher than the client's bound; otherwise 0.
type KnownFlags struct {
	Flags  Flags
	ModSeq uint64
}

// Known has the flags of some messages as a client knows them: flags that it was told or has set since its
// view's bound. It is immutable; nil is empty.
type Known struct {
	sets   []KnownFlags
	uids   Runs
	modSeq bool // the client uses mod-sequences, so it has to know each message's, too
}

// NewKnown makes a Known of runs of UIDs and the sets that they refer to. It takes ownership of the runs.
func NewKnown(sets []KnownFlags, uids Runs, dialect Dialect) *Known {
	if uids.Len() == 0 {
		return nil
	}
	uids.runs = slices.Clip(uids.runs)
	return &Known{sets: sets, uids: uids, modSeq: dialect != Plain}
}

// Runs returns a copy of the arguments of NewKnown.
func (k *Known) Runs() ([]KnownFlags, Runs) {
	return slices.Clone(k.sets), Runs{slices.Clone(k.uids.runs)}
}

// has says whether the client already knows a change.
func (k *Known) has(c FlagChange) bool {
	if k == nil {
		return false
	}
	set, ok := k.uids.Of(c.UID)
	if !ok || set == 0 {
		return false
	}
	known := k.sets[set]
	return known.Flags.Equal(c.Flags) && (!k.modSeq || known.ModSeq != 0 && known.ModSeq == c.ModSeq)
}

// after returns what is known once the client was told these changes.
func (k *Known) after(told []FlagChange) *Known {
	if k == nil || len(told) == 0 {
		return k
	}
	left := Runs{slices.Clone(k.uids.runs)}
	for _, c := range told {
		left.Cut(c.UID, c.UID)
	}
	if left.Len() == 0 {
		return nil
	}
	return &Known{sets: k.sets, uids: left, modSeq: k.modSeq}
}

// Of returns the flags of a message as the client knows them.
func (k *Known) Of(uid uint32) (Flags, bool) {
	if k == nil {
		return "", false
	}
	set, ok := k.uids.Of(uid)
	if !ok || set == 0 {
		return "", false
	}
	return k.sets[set].Flags, true
}

// Unknown returns how many of these messages have flags that aren't known.
func (k *Known) Unknown(uids UIDs) uint32 {
	n := uids.Count()
	if k == nil {
		return n
	}
	k.uids.Each(func(first, last uint32, set uint8) {
		if set != 0 {
			n -= uids.Intersect(UIDRange(first, last)).Count()
		}
	})
	return n
}

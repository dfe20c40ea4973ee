package track

import (
	"bytes"
	"slices"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// Bounds of what is remembered of a client's flags. Beyond them some are forgotten, and will be
// told once more.
const (
	maxKnownRuns   = 128
	maxKnownSets   = 128
	maxKnownText   = 4 << 10 // of all sets: a keyword can be long
	maxKnownStores = 32      // in flight
	maxKnownArgs   = 512     // of one of them
)

// known has the flags that a client knows, as it was told them or has set them itself. A
// resume doesn't tell it those again. What isn't sure is forgotten: a client that is told too
// much loses nothing.
//
// A message stands under its UID where that is known (pairs), else under its number. One
// that stands under both with different flags is unknown, as is one with set 0, which stands
// there for that.
type known struct {
	sets       []knownSet // the first is of no meaning
	text       int        // how much of it they have
	uids, nums view.Runs
	pairs      pairs // has all messages that stand under their UIDs, unless some are lost
	// lastNum and lastUID are of the last FETCH that named both: the message behind it has the
	// UID behind it, however far off that is.
	lastNum, lastUID uint32
	stores           []silentInFlight
	room             [][]byte // of stores that are over
	blind            bool     // a STORE in flight can't be followed
}

// knownSet is a set of flags. raw is how the backend writes it.
type knownSet struct {
	raw string
	view.KnownFlags
}

// silentInFlight is a STORE with .SILENT that isn't answered yet.
type silentInFlight struct {
	seq  uint64
	uid  bool
	args []byte
}

// knownOf goes on with what is known after a park, of a client that counts these. nil: nothing.
func knownOf(k *view.Known, messages view.UIDs) *known {
	if k == nil {
		return nil
	}
	sets, uids := k.Runs()
	b := &known{uids: uids, pairs: pairsOf(messages)}
	for _, s := range sets {
		b.sets = append(b.sets, knownSet{raw: string(s.Flags), KnownFlags: s})
		b.text += len(s.Flags)
	}
	return b
}

// frozen is what is known for a view with these messages.
func (k *known) frozen(messages view.UIDs, dialect view.Dialect) *view.Known {
	if k == nil || k.blind || len(k.stores) > 0 {
		return nil
	}
	var uids view.Runs
	k.uids.Each(func(first, last uint32, set uint8) {
		if set != 0 {
			uids.Put(first, last, set)
		}
	})
	k.nums.Each(func(first, last uint32, set uint8) {
		from, ok := messages.At(first)
		till, _ := messages.At(min(last, messages.Count()))
		switch {
		case !ok:
		case set == 0:
			uids.Cut(from, till)
		default:
			uids.Put(from, till, set)
			k.uids.Each(func(first, last uint32, other uint8) { // both
				if first <= till && last >= from && (other == 0 || k.sets[other].KnownFlags != k.sets[set].KnownFlags) {
					uids.Cut(max(first, from), min(last, till))
				}
			})
		}
	})
	for uids.Len() > maxKnownRuns {
		uids.Halve()
	}
	sets := make([]view.KnownFlags, len(k.sets))
	for i, s := range k.sets {
		sets[i] = s.KnownFlags
	}
	return view.NewKnown(sets, uids, dialect)
}

// forget forgets all flags.
func (k *known) forget() {
	k.uids.Clear()
	k.nums.Clear()
	k.pairs.clear()
	k.sets, k.text = k.sets[:0], 0
	k.lastNum = 0
}

// set finds a set of flags as it stands between parentheses, or makes one. 0: it is none.
func (k *known) set(raw []byte, modSeq uint64) uint8 {
	for i := 1; i < len(k.sets); i++ {
		if s := &k.sets[i]; s.ModSeq == modSeq && s.raw == string(raw) {
			return uint8(i)
		}
	}
	flags, err := view.ParseFlags(raw)
	if err != nil {
		return 0
	}
	return k.add(string(raw), view.KnownFlags{Flags: flags, ModSeq: modSeq})
}

// find finds the set that is ok, or makes one of these flags.
func (k *known) find(modSeq uint64, ok func(view.Flags) bool, flags func() view.Flags) uint8 {
	for i := 1; i < len(k.sets); i++ {
		if s := &k.sets[i]; s.ModSeq == modSeq && ok(s.Flags) {
			return uint8(i)
		}
	}
	f := flags()
	return k.add(string(f), view.KnownFlags{Flags: f, ModSeq: modSeq})
}

// add adds a set. Where there are too many, all are forgotten, and 0 is returned.
func (k *known) add(raw string, f view.KnownFlags) uint8 {
	if len(k.sets) >= maxKnownSets || k.text+len(f.Flags) > maxKnownText {
		k.forget()
		return 0
	}
	k.text += len(f.Flags)
	if len(k.sets) == 0 {
		k.sets = append(k.sets, knownSet{})
	}
	k.sets = append(k.sets, knownSet{raw, f})
	return uint8(len(k.sets) - 1)
}

// fetched takes note of a FETCH response. bound is the client's, below which mod-sequences
// don't matter.
func (k *known) fetched(f *FetchResponse, bound uint64) {
	modSeq := f.modSeq
	if modSeq <= bound {
		modSeq = 0
	}
	switch {
	case f.number == 0: // told by UID alone
	case f.uid != 0:
		k.pairs.put(f.number, f.uid)
	default:
		f.uid = k.pairs.uid(f.number)
	}
	switch {
	case f.doubt, f.HasFlags && k.blind, f.HasFlags && !k.holds(f):
		k.unsure(f)
	case f.HasFlags:
		set := k.set(f.flags, modSeq)
		if set == 0 {
			k.unsure(f)
			return
		}
		k.put(f, set)
	case modSeq != 0:
		k.moved(f, modSeq)
	}
	if k.uids.Len() > maxKnownRuns {
		k.uids.Halve()
	}
	if k.nums.Len() > maxKnownRuns {
		k.uids.Clear() // some of which were in doubt by number
		k.nums.Halve()
	}
}

// holds says whether the flags that a response tells hold whatever becomes of the STOREs in
// flight: it may be of before them or of after. Cyrus tells flags with .SILENT, too.
func (k *known) holds(f *FetchResponse) bool {
	for i := range k.stores {
		var st SilentStore
		if _, ok := k.parse(&k.stores[i], &st); !ok {
			return false
		}
		set := k.set(f.flags, 0)
		if set == 0 {
			return false
		}
		flags := k.sets[set].Flags
		switch {
		case st.sign == '+' && flags.IsUnion(flags, st.flags):
		case st.sign == '-' && flags.IsWithout(flags, st.flags):
		case st.sign == 0 && flags.Equal(st.flags):
		default:
			return false
		}
	}
	return true
}

// put gives a message a set.
func (k *known) put(f *FetchResponse, set uint8) {
	if f.uid == 0 {
		k.nums.Put(f.number, f.number, set)
		return
	}
	if f.number != 0 {
		k.nums.Cut(f.number, f.number)
	}
	first := f.uid
	if was, ok := k.uids.Of(k.lastUID); ok && was == set && k.lastNum != 0 && f.number == k.lastNum+1 && f.uid > k.lastUID {
		first = k.lastUID + 1
	}
	k.uids.Put(first, f.uid, set)
	k.lastNum, k.lastUID = f.number, f.uid
}

// unsure forgets a message's flags.
func (k *known) unsure(f *FetchResponse) {
	if f.uid == 0 {
		k.nums.Put(f.number, f.number, 0)
		return
	}
	if f.number != 0 {
		k.nums.Cut(f.number, f.number)
	}
	k.uids.Cut(f.uid, f.uid)
}

// moved gives a message another mod-sequence, and leaves it its flags.
func (k *known) moved(f *FetchResponse, modSeq uint64) {
	runs, id := &k.uids, f.uid
	if id == 0 {
		runs, id = &k.nums, f.number
	}
	set, ok := runs.Of(id)
	if !ok || set == 0 {
		return
	}
	flags := k.sets[set].Flags
	if set = k.find(modSeq, flags.Equal, func() view.Flags { return flags }); set != 0 {
		runs.Put(id, id, set)
	}
}

// expunged takes a number away.
func (k *known) expunged(n uint32) {
	k.nums.Gone(n)
	k.pairs.gone(n)
	k.lastNum = 0
}

// vanished says that UIDs have gone, so that nobody knows which numbers mean what.
func (k *known) vanished() {
	if k.nums.Len() > 0 {
		k.forget()
	}
	k.pairs.lose()
	k.lastNum = 0
}

// begins takes note of a STORE that begins.
func (k *known) begins(seq uint64, h wire.CommandHead, whole bool) {
	switch {
	case whole && !containsFold(h.Args, "SILENT"):
		return // the backend tells the flags
	case !whole, len(h.Args) > maxKnownArgs, len(k.stores) >= maxKnownStores:
		k.forget()
		k.blind = true
		return
	}
	var room []byte
	if n := len(k.room); n > 0 {
		room, k.room = k.room[n-1], k.room[:n-1]
	}
	k.stores = append(k.stores, silentInFlight{seq: seq, uid: h.Verb == wire.UIDStore, args: append(room[:0], h.Args...)})
}

// stored takes note of the answer to a STORE. last says that no other command is in flight.
func (k *known) stored(seq uint64, h wire.ResponseHead, last bool) {
	if k.blind {
		k.forget()
		k.blind = !last
	}
	i := slices.IndexFunc(k.stores, func(s silentInFlight) bool { return s.seq == seq })
	if i < 0 {
		return
	}
	s := k.stores[i]
	k.stores = slices.Delete(k.stores, i, i+1)
	k.room = append(k.room, s.args)
	code, _ := wire.Code(h.Rest)
	k.apply(&s, h.Status == wire.OK && !wire.Is(code, "MODIFIED"))
}

// parse reads a STORE's arguments: the messages that it names, and what it does to them.
func (k *known) parse(s *silentInFlight, st *SilentStore) (set []byte, ok bool) {
	set, rest, _ := bytes.Cut(s.args, []byte(" "))
	if rest, ok = st.modifiers(rest); !ok {
		return set, false
	}
	item, flags, _ := bytes.Cut(rest, []byte(" "))
	if len(item) > 0 && (item[0] == '+' || item[0] == '-') {
		st.sign, item = item[0], item[1:]
	}
	given := k.set(bytes.Trim(bytes.TrimRight(flags, " \r\n"), "()"), 0)
	if given == 0 || !wire.Is(item, "FLAGS.SILENT") {
		return set, false
	}
	st.flags = k.sets[given].Flags
	return set, true
}

// apply has a client know what its STORE has made of the flags that it knew. ok is false where
// nobody knows what became of it.
func (k *known) apply(s *silentInFlight, ok bool) {
	var st SilentStore
	set, parsed := k.parse(s, &st)
	ok = ok && parsed
	runs := &k.uids
	if s.uid { // who knows which numbers these have
		k.nums.Change(1, 1<<32-1, func(uint8) uint8 { return 0 })
	} else {
		runs = &k.nums
		if k.pairs.lost {
			k.uids.Clear()
			k.pairs.clear()
		}
	}
	to := func(set uint8) uint8 {
		if set == 0 || !ok || int(set) >= len(k.sets) {
			return 0
		}
		return k.changed(set, &st)
	}
	for len(set) > 0 {
		var span []byte
		span, set, _ = bytes.Cut(set, []byte(","))
		from, till, two := bytes.Cut(span, []byte(":"))
		a := number32(from)
		b := a
		if two {
			b = number32(till)
		}
		if a == 0 || b == 0 {
			k.forget() // "*", or no set at all
			return
		}
		runs.Change(min(a, b), max(a, b), to)
		if !s.uid {
			k.pairs.each(min(a, b), max(a, b), func(first, last uint32) { k.uids.Change(first, last, to) })
		}
	}
	if k.uids.Len() > maxKnownRuns || k.nums.Len() > maxKnownRuns {
		k.forget()
	}
}

// changed is the set that a STORE makes of one. 0: there is no room for it.
func (k *known) changed(set uint8, st *SilentStore) uint8 {
	was, modSeq := k.sets[set].Flags, k.sets[set].ModSeq
	switch st.sign {
	case '+':
		return k.find(modSeq, func(f view.Flags) bool { return f.IsUnion(was, st.flags) }, func() view.Flags { return was.Union(st.flags) })
	case '-':
		return k.find(modSeq, func(f view.Flags) bool { return f.IsWithout(was, st.flags) }, func() view.Flags { return was.Without(st.flags) })
	}
	return k.find(modSeq, st.flags.Equal, func() view.Flags { return st.flags })
}

package track

import (
	"bytes"
	"slices"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// Bounds of the memory for the flags that a client knows. Beyond them some flags are forgotten, and a resume
// tells them again.
const (
	maxKnownRuns   = 128
	maxKnownSets   = 128
	maxKnownText   = 4 << 10 // of all sets: a keyword can be long
	maxKnownStores = 32      // STOREs in flight
	maxKnownArgs   = 512     // of one such STORE
)

// known has the flags that a client knows, because it was told them or has set them itself. A resume doesn't
// tell the client those flags again. Flags that aren't certain are forgotten: a client loses nothing if it is
// told too much.
//
// A message is recorded under its UID if that is known (pairs), otherwise under its number. If a message is
// recorded under both with different flags, its flags are unknown; set 0 means that they are unknown, too.
type known struct {
	sets       []knownSet // index 0 isn't a set
	text       int        // octets of all sets
	uids, nums view.Runs
	pairs      pairs // has all messages that are recorded under their UIDs, unless pairs.lost is set
	// lastNum and lastUID are those of the last FETCH that had both: the message with the next number has the
	// next UID of the mailbox, whatever that is.
	lastNum, lastUID uint32
	stores           []silentInFlight
	room             [][]byte // the memory of finished stores
	blind            bool     // a STORE in flight can't be followed
}

// knownSet is a set of flags. raw is the list as the backend writes it.
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

// knownOf returns a known that continues after a park; messages are those that the client knows. nil: no
// flags are known.
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

// frozen returns the known flags for a view with these messages.
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
			k.uids.Each(func(first, last uint32, other uint8) { // recorded under its UID as well
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

// set returns the set of flags with this text between parentheses; it adds the set if necessary. 0: no such
// set.
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

// find returns the set for which ok returns true; if there is none it adds the result of flags.
func (k *known) find(modSeq uint64, ok func(view.Flags) bool, flags func() view.Flags) uint8 {
	for i := 1; i < len(k.sets); i++ {
		if s := &k.sets[i]; s.ModSeq == modSeq && ok(s.Flags) {
			return uint8(i)
		}
	}
	f := flags()
	return k.add(string(f), view.KnownFlags{Flags: f, ModSeq: modSeq})
}

// add adds a set. If there are too many, it forgets all flags and returns 0.
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

// fetched follows a FETCH response. bound is the client's mod-sequence; lower mod-sequences don't matter.
func (k *known) fetched(f *FetchResponse, bound uint64) {
	modSeq := f.modSeq
	if modSeq <= bound {
		modSeq = 0
	}
	switch {
	case f.number == 0: // the response names the message by UID alone
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
		k.uids.Clear() // some of them were uncertain because of their number
		k.nums.Halve()
	}
}

// holds says whether the flags in a response are true whatever the STOREs in flight do: the response may have
// been sent before or after them. Cyrus sends flags even with .SILENT.
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

// put records the set of a message.
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

// unsure forgets the flags of a message.
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

// moved records another mod-sequence of a message and keeps its flags.
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

// expunged removes a number.
func (k *known) expunged(n uint32) {
	k.nums.Gone(n)
	k.pairs.gone(n)
	k.lastNum = 0
}

// vanished records that UIDs were removed, so that numbers no longer identify messages.
func (k *known) vanished() {
	if k.nums.Len() > 0 {
		k.forget()
	}
	k.pairs.lose()
	k.lastNum = 0
}

// begins records a STORE that begins.
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

// stored records the answer to a STORE. last: no other command is in flight.
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

// parse reads the arguments of a STORE: the messages and the change of their flags.
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

// apply applies a STORE to the flags that the client knew. If ok is false, the result of the STORE isn't
// known.
func (k *known) apply(s *silentInFlight, ok bool) {
	var st SilentStore
	set, parsed := k.parse(s, &st)
	ok = ok && parsed
	runs := &k.uids
	if s.uid { // it isn't known which numbers these messages have
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
			k.forget() // "*", or not a set
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

// changed returns the set that results from a STORE on a set. 0: there is no space for it.
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

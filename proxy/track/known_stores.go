package track

import (
	"bytes"
	"slices"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

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

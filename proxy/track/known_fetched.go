package track

import "imapproxy/proxy/park/view"

// fetched follows a FETCH response. bound is the client's mod-sequence; lower mod-sequences don't matter.
func (k *known) fetched(f *FetchResponse, bound uint64) {
	modSeq := f.modSeq
	if modSeq <= bound {
		modSeq = 0
	}
	switch {
	case f.number == 0: // the response names the message by UID alone
	case f.uid != 0 && (f.tellsFlags() || len(k.pairs.runs) < maxKnownRuns/2): // flags aren't lost for a UID alone
		k.pairs.put(f.number, f.uid)
	case f.uid != 0:
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

package track

import (
	"imapproxy/proxy/park/view"
)

// Bounds of the memory for the flags that a client knows. Beyond them some flags are forgotten, and a resume
// tells them again.
const (
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

// told returns the messages whose UIDs are known, in order; k may be nil.
func (k *known) told() []view.Told {
	if k == nil {
		return nil
	}
	return k.pairs.told()
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

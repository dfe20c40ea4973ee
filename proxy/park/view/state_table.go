package view

import (
	"cmp"
	"slices"
	"sort"
)

// FlagTable has the flags of many messages; it is immutable and may be shared. It takes 8 bytes for each run
// of consecutive messages with the same flags, and stores each set of flags once. It can't tell which
// messages it was made for; the caller knows that.
type FlagTable struct {
	sets []Flags
	runs []flagRun // ascending; each run ends before the next one's UID
}

type flagRun struct {
	uid, set uint32
}

// NewFlagTable returns the table of these messages, in any order; each must appear once.
func NewFlagTable(messages []FlagChange) *FlagTable {
	if !slices.IsSortedFunc(messages, byUID) {
		messages = slices.Clone(messages)
		slices.SortStableFunc(messages, byUID)
	}
	var b tableBuilder
	for _, m := range messages {
		b.add(m.UID, m.Flags)
	}
	return b.table()
}

func byUID(a, b FlagChange) int { return cmp.Compare(a.UID, b.UID) }

// Of returns the flags of a message for which the table was made.
func (t *FlagTable) Of(uid uint32) Flags {
	i := sort.Search(len(t.runs), func(i int) bool { return t.runs[i].uid > uid })
	if i == 0 {
		return ""
	}
	return t.sets[t.runs[i-1].set]
}

// tableBuilder makes a table of messages that are added in order.
type tableBuilder struct {
	t     FlagTable
	known map[Flags]uint32
}

func (b *tableBuilder) add(uid uint32, flags Flags) {
	set, ok := b.known[flags]
	if !ok {
		if b.known == nil {
			b.known = map[Flags]uint32{}
		}
		set = uint32(len(b.t.sets))
		b.known[flags] = set
		b.t.sets = append(b.t.sets, flags)
	}
	if n := len(b.t.runs); n > 0 && b.t.runs[n-1].set == set {
		return
	}
	b.t.runs = append(b.t.runs, flagRun{uid: uid, set: set})
}

func (b *tableBuilder) table() *FlagTable {
	b.t.sets, b.t.runs = slices.Clip(b.t.sets), slices.Clip(b.t.runs)
	return &b.t
}

// NothingTold is the table of a client of which it isn't known what flags it was told: they differ from all that a mailbox has.
func NothingTold() *FlagTable {
	return &FlagTable{sets: []Flags{`\`}, runs: []flagRun{{uid: 1}}}
}

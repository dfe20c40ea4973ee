package view

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"imapproxy/internal/imaptest"
)

var dialects = map[Dialect]imaptest.ModelDialect{
	Plain: imaptest.ModelPlain, CondStore: imaptest.ModelCondStore, QResync: imaptest.ModelQResync,
}

// flagsOf is a model's flags as ours.
func flagsOf(t failer, list []string) Flags {
	f, err := ParseFlags([]byte(strings.Join(list, " ")))
	if err != nil {
		t.Fatalf("%v: %v", list, err)
	}
	return f
}

type failer interface {
	Helper()
	Fatalf(string, ...any)
}

// keywordsOf is FLAGS of a mailbox: what is or may be set in it.
func keywordsOf(t failer, m *imaptest.ModelMailbox) Flags {
	list := []string{`\Answered`, `\Deleted`, `\Draft`, `\Flagged`, `\Seen`}
	for _, msg := range m.Messages {
		list = append(list, msg.Flags...)
	}
	return flagsOf(t, list)
}

func tableOf(t failer, m *imaptest.ModelMailbox) *FlagTable {
	var all []FlagChange
	for _, msg := range m.Messages {
		all = append(all, FlagChange{UID: msg.UID, Flags: flagsOf(t, msg.Flags)})
	}
	return NewFlagTable(all)
}

// viewOf is the view of a client that has just selected m.
func viewOf(t failer, m *imaptest.ModelMailbox, compare bool) *View {
	v := &View{
		Mailbox: "INBOX", UIDValidity: m.UIDValidity, UIDNext: m.UIDNext, UIDs: UIDsOf(m.UIDs()...),
		Flags: keywordsOf(t, m), ModSeq: m.ModSeq,
	}
	if compare {
		v.Told = tableOf(t, m)
	}
	return v
}

// stateOf is what a resync finds in m: by comparison, or by QRESYNC from a mod-sequence that may
// be lower than needed.
func stateOf(t failer, m *imaptest.ModelMailbox, compare bool, since uint64) *State {
	s := &State{UIDValidity: m.UIDValidity, UIDNext: m.UIDNext, UIDs: UIDsOf(m.UIDs()...), FlagList: keywordsOf(t, m)}
	if compare {
		s.Table = tableOf(t, m)
		return s
	}
	s.ModSeq, s.Since = m.ModSeq, since
	for _, msg := range m.Messages {
		if msg.ModSeq > since {
			s.Changed = append(s.Changed, FlagChange{UID: msg.UID, Flags: flagsOf(t, msg.Flags), ModSeq: msg.ModSeq})
		}
	}
	return s
}

var someFlags = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{`\Seen`, `\Deleted`, `\Flagged`, "$Kw1", "$Kw2", "Junk"}), 0, 3, rapid.ID[string])

// change does something to a mailbox.
func change(t *rapid.T, m *imaptest.ModelMailbox) {
	what := rapid.IntRange(0, 9).Draw(t, "op")
	switch {
	case what < 3 || len(m.Messages) == 0:
		if rapid.IntRange(0, 3).Draw(t, "hole") == 0 {
			m.Skip(rapid.Uint32Range(1, 5).Draw(t, "skip"))
		}
		m.Append(someFlags.Draw(t, "flags")...)
	case what < 7:
		msg := rapid.SampledFrom(m.Messages).Draw(t, "message")
		m.Store(msg.UID, someFlags.Draw(t, "flags")...)
	default:
		m.Expunge(rapid.SliceOfN(rapid.SampledFrom(m.UIDs()), 1, 4).Draw(t, "gone")...)
	}
}

// hear gives a model client what it is told, a response at a time, and has it ask itself each
// time what would be if it were cut off now.
func hear(t failer, c *imaptest.ModelClient, m *imaptest.ModelMailbox, told []byte) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSuffix(string(told), "\r\n"), "\r\n") {
		if line == "" {
			continue
		}
		if err := c.Response(imaptest.Response{Text: line}); err != nil {
			t.Fatalf("%s: %v\nof %q", line, err, told)
		}
		if err := c.Check(m); err != nil {
			t.Fatalf("cut off behind %s: %v\nof %q", line, err, told)
		}
	}
}

// TestClientsAreToldTheTruth lets a mailbox change, and clients of it in each dialect
// be resynchronised from time to time: in IDLE, where all may be told, and while a
// FETCH is in progress, where EXPUNGE is owed and something else may happen
// before it is paid.
func TestClientsAreToldTheTruth(t *testing.T) {
	for dialect, theirs := range dialects {
		for _, by := range []strategy{byQResync, byComparison, byEither} {
			if by != byQResync && dialect != Plain {
				continue // has no mod-sequences to tell
			}
			t.Run(dialect.String()+" "+string(by), func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) { tellTheTruth(t, dialect, theirs, by) })
			})
		}
	}
}

// strategy is how the states of a test are found.
type strategy string

const (
	byQResync    strategy = "by QRESYNC"
	byComparison strategy = "by comparison"
	byEither     strategy = "by either"
)

// look takes a state of m that goes with v.
func (by strategy) look(t *rapid.T, m *imaptest.ModelMailbox, v *View) *State {
	compare := by == byComparison || by == byEither && v.Told != nil && rapid.Bool().Draw(t, "compare")
	return stateOf(t, m, compare, rapid.Uint64Range(0, v.ModSeq).Draw(t, "since"))
}

func tellTheTruth(t *rapid.T, dialect Dialect, theirs imaptest.ModelDialect, by strategy) {
	m := imaptest.NewModelMailbox(7)
	for range rapid.IntRange(0, 12).Draw(t, "begin") {
		change(t, m)
	}
	v := viewOf(t, m, by != byQResync)
	c := imaptest.NewModelClient(theirs, m, strings.Fields(string(v.Flags))...)
	owed := Difference{}
	for range rapid.IntRange(1, 6).Draw(t, "resyncs") {
		for range rapid.IntRange(0, 6).Draw(t, "changes") {
			change(t, m)
		}
		s := by.look(t, m, v)
		d, err := Compare(v, s)
		if err != nil {
			t.Fatalf("compare: %v", err)
		}
		if rapid.Bool().Draw(t, "fetching") {
			// EXPUNGE isn't allowed.
			var now Difference
			now, owed = d.Split(dialect)
			c.Begin("FETCH")
			if now.HasExpunge() {
				t.Fatalf("EXPUNGE in what may be told now")
			}
			hear(t, c, m, now.AppendTo(nil, dialect, v))
			bound := v.ModSeq
			v = v.After(now)
			if owed.HasExpunge() && v.ModSeq != bound {
				t.Fatalf("the bound went from %d to %d ahead of what is owed", bound, v.ModSeq)
			}
			if rapid.Bool().Draw(t, "superseded") {
				continue // the next resync finds what is owed as well
			}
			c.Begin("NOOP")
			hear(t, c, m, owed.AppendTo(nil, dialect, v))
			v = v.After(owed)
		} else {
			c.Begin("IDLE")
			hear(t, c, m, d.AppendTo(nil, dialect, v))
			v = v.After(d)
		}
		agree(t, v, s, c, m)
		if rapid.Bool().Draw(t, "look") { // at what is new
			for i, msg := range m.Messages {
				if err := c.Learn(i+1, msg.UID); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// A last look, and nothing may be left.
	s := by.look(t, m, v)
	d, err := Compare(v, s)
	if err != nil {
		t.Fatalf("compare: %v", err)
	}
	c.Begin("IDLE")
	hear(t, c, m, d.AppendTo(nil, dialect, v))
	v = v.After(d)
	agree(t, v, s, c, m)
	if d, err := Compare(v, s); err != nil || !d.Empty() || v.After(d).ModSeq != v.ModSeq {
		t.Fatalf("told twice: %+v, %v", d, err)
	}
}

// agree says that view, state, client and truth are one.
func agree(t *rapid.T, v *View, s *State, c *imaptest.ModelClient, m *imaptest.ModelMailbox) {
	t.Helper()
	if !v.UIDs.Equal(s.UIDs) || v.ModSeq < s.ModSeq || v.UIDNext < s.UIDNext {
		t.Fatalf("view %+v isn't the state %+v", v, s)
	}
	if err := c.Converged(m); err != nil {
		t.Fatal(err)
	}
	for i, uid := range slices.Collect(v.UIDs.All()) {
		if known := c.UID(i + 1); known != 0 && known != uid {
			t.Fatalf("message %d is UID %d in the view, %d at the client", i+1, uid, known)
		}
		if msg := m.Find(uid); v.Told != nil && v.Told.Of(uid) != flagsOf(t, msg.Flags) {
			t.Fatalf("UID %d has %v, the table %s", uid, msg.Flags, v.Told.Of(uid))
		}
	}
}

func TestTheSameMailbox(t *testing.T) {
	v := &View{UIDValidity: 7, UIDNext: 20, UIDs: UIDsOf(3, 5, 9), ModSeq: 100}
	same := State{UIDValidity: 7, UIDNext: 20, UIDs: UIDsOf(3, 5, 9), ModSeq: 100, Since: 100}
	for name, tc := range map[string]struct {
		edit func(*State)
		want Reason
	}{
		"as it was":                      {func(*State) {}, ""},
		"one gone, one new":              {func(s *State) { s.UIDs, s.UIDNext, s.ModSeq = UIDsOf(3, 9, 20), 21, 102 }, ""},
		"all gone":                       {func(s *State) { s.UIDs = UIDs{} }, ""},
		"new behind the EXAMINE's word":  {func(s *State) { s.UIDs = UIDsOf(3, 5, 9, 20, 21) }, ""},
		"UIDNEXT not told":               {func(s *State) { s.UIDNext = 0 }, ""},
		"another UIDVALIDITY":            {func(s *State) { s.UIDValidity = 8 }, OtherUIDValidity},
		"UIDNEXT below what was told":    {func(s *State) { s.UIDNext = 19 }, LowerUIDNext},
		"HIGHESTMODSEQ below":            {func(s *State) { s.ModSeq = 99 }, LowerModSeq},
		"a strange UID in between":       {func(s *State) { s.UIDs = UIDsOf(3, 4, 5, 9) }, UnknownLowUID},
		"a strange UID below UIDNEXT":    {func(s *State) { s.UIDs = UIDsOf(3, 5, 9, 19) }, UnknownLowUID},
		"the last one's UID given again": {func(s *State) { s.UIDs = UIDsOf(3, 5, 10) }, UnknownLowUID},
	} {
		s := same
		tc.edit(&s)
		_, err := Compare(v, &s)
		var other *NotSame
		switch {
		case tc.want == "" && err != nil, tc.want != "" && (!errors.As(err, &other) || other.Reason != tc.want):
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	// What the client counts is known even where no UIDNEXT was told.
	v = &View{UIDValidity: 7, UIDs: UIDsOf(3, 5, 9)}
	for uids, want := range map[UIDs]bool{UIDsOf(3, 5, 9, 10): true, UIDsOf(3, 4, 5, 9): false} {
		s := State{UIDValidity: 7, UIDs: uids, ModSeq: 1}
		if _, err := Compare(v, &s); (err == nil) != want {
			t.Errorf("%s: %v", uids, err)
		}
	}
	if _, err := Compare(&View{UIDValidity: 7, UIDs: UIDsOf(1<<32 - 1)}, &State{UIDValidity: 7, UIDs: UIDsOf(1<<32 - 1), ModSeq: 1}); err != nil {
		t.Error("the last UID there is: ", err)
	}
}

// A state that doesn't reach back to the view's bound would hide changes.
func TestGapsAreFound(t *testing.T) {
	uids := UIDsOf(1, 2)
	told := NewFlagTable([]FlagChange{{UID: 1}, {UID: 2}})
	for name, tc := range map[string]struct {
		v    View
		s    State
		want error
	}{
		"since the bound":                {View{UIDs: uids, ModSeq: 5}, State{UIDs: uids, Since: 5, ModSeq: 9}, nil},
		"since before it":                {View{UIDs: uids, ModSeq: 5}, State{UIDs: uids, Since: 1, ModSeq: 9}, nil},
		"since after it":                 {View{UIDs: uids, ModSeq: 5}, State{UIDs: uids, Since: 6, ModSeq: 9}, ErrGap},
		"no bound":                       {View{UIDs: uids}, State{UIDs: uids, Since: 1, ModSeq: 9}, ErrGap},
		"no bound, all flags":            {View{UIDs: uids}, State{UIDs: uids, ModSeq: 9}, nil},
		"NOMODSEQ":                       {View{UIDs: uids}, State{UIDs: uids}, ErrGap},
		"a table":                        {View{UIDs: uids, Told: told}, State{UIDs: uids, Table: told}, nil},
		"a table, flags told not known":  {View{UIDs: uids}, State{UIDs: uids, Table: told}, ErrNoFlags},
		"a table, all messages are gone": {View{UIDs: uids}, State{Table: told}, nil},
		"a table, all messages are new":  {View{}, State{UIDs: uids, Table: told}, nil},
	} {
		if _, err := Compare(&tc.v, &tc.s); err != tc.want {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

// What happened while the resync was under way has a mod-sequence beyond its
// bound. Telling it would let a client forget what lies in between.
func TestChangesBeyondTheBoundWait(t *testing.T) {
	v := &View{UIDs: UIDsOf(1, 2), ModSeq: 5}
	s := &State{UIDs: UIDsOf(1, 2), ModSeq: 8, Since: 5, Changed: []FlagChange{
		{UID: 2, Flags: `\Seen`, ModSeq: 7}, {UID: 1, Flags: `\Seen`, ModSeq: 9},
	}}
	d, err := Compare(v, s)
	if err != nil || !d.Again || len(d.Changed) != 1 || d.Changed[0].UID != 2 || v.After(d).ModSeq != 8 {
		t.Fatalf("%+v, %v", d, err)
	}
}

// Messages that were mentioned twice are told once, as they are now.
func TestTheNewestMentionCounts(t *testing.T) {
	v := &View{UIDs: UIDsOf(1, 2), ModSeq: 5}
	s := &State{UIDs: UIDsOf(1, 2), ModSeq: 8, Since: 5, Changed: []FlagChange{
		{UID: 2, Flags: `\Seen`, ModSeq: 7}, {UID: 1, Flags: "a", ModSeq: 6}, {UID: 2, Flags: `\Draft`, ModSeq: 8},
	}}
	d, err := Compare(v, s)
	if err != nil || len(d.Changed) != 2 || d.Changed[1].Flags != `\Draft` {
		t.Fatalf("%+v, %v", d, err)
	}
	if s.Changed[0].Flags != `\Seen` {
		t.Fatal("the state, which others share, was changed")
	}
}

// A client with mod-sequences whose backend has none to compare by is told flags
// without; the flags of what is new are known even while the rest is owed.
func TestComparingWhereExpungeIsOwed(t *testing.T) {
	v := &View{UIDs: UIDsOf(1, 2, 3), Flags: `\Seen`, Told: NewFlagTable([]FlagChange{{UID: 3, Flags: `\Seen`}, {UID: 1}, {UID: 2}})}
	d, err := Compare(v, &State{UIDs: UIDsOf(1, 3, 7), Table: NewFlagTable([]FlagChange{{UID: 1, Flags: `\Seen`}, {UID: 3}, {UID: 7, Flags: `\Seen`}})})
	if err != nil {
		t.Fatal(err)
	}
	now, owed := d.Split(CondStore)
	after := v.After(now)
	for uid, want := range map[uint32]Flags{1: "", 2: "", 3: `\Seen`, 7: `\Seen`} {
		if got := after.Told.Of(uid); got != want {
			t.Errorf("UID %d: %s, want %s", uid, got, want)
		}
	}
	want := "* 2 EXPUNGE\r\n* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n* 2 FETCH (UID 3 FLAGS ())\r\n"
	if got := string(owed.AppendTo(nil, CondStore, after)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for uid, want := range map[uint32]Flags{1: `\Seen`, 3: "", 7: `\Seen`} {
		if got := after.After(owed).Told.Of(uid); got != want {
			t.Errorf("in the end, UID %d: %s, want %s", uid, got, want)
		}
	}
	// New messages with unknown flags: then the table isn't known.
	unknown := Difference{New: UIDsOf(9)}
	if v.After(unknown).Told != nil {
		t.Error("flags of a message that nobody has looked at")
	}
}

// What the next state is measured by: no UID that was given before may come back.
func TestUIDNextFollows(t *testing.T) {
	v := &View{UIDNext: 20, UIDs: UIDsOf(3, 19)}
	for name, tc := range map[string]struct {
		s    State
		want uint32
	}{
		"as the EXAMINE said":       {State{UIDNext: 25, UIDs: UIDsOf(3)}, 25},
		"not told":                  {State{UIDs: UIDsOf(3)}, 20},
		"one came behind its word":  {State{UIDNext: 20, UIDs: UIDsOf(3, 20)}, 21},
		"the last one there can be": {State{UIDNext: 20, UIDs: UIDsOf(1<<32 - 1)}, 1<<32 - 1},
	} {
		tc.s.ModSeq = 1
		d, err := Compare(v, &tc.s)
		if err != nil || d.UIDNext != tc.want || v.After(d).UIDNext != tc.want {
			t.Errorf("%s: %d, %v, want %d", name, d.UIDNext, err, tc.want)
		}
	}
	bare := &View{UIDs: UIDsOf(3, 19)}
	if d, err := Compare(bare, &State{UIDs: UIDsOf(3), ModSeq: 1}); err != nil || d.UIDNext != 20 {
		t.Errorf("%d, %v", d.UIDNext, err)
	}
}

// All views of a mailbox end up with one table of flags.
func TestTablesAreShared(t *testing.T) {
	flags := []FlagChange{{UID: 1}, {UID: 2, Flags: `\Seen`}}
	v := &View{UIDs: UIDsOf(1, 2), UIDNext: 3, Told: NewFlagTable(flags)}
	s := &State{UIDs: UIDsOf(1, 2), UIDNext: 3, Table: NewFlagTable(flags)}
	if d, err := Compare(v, s); err != nil || !d.Empty() || v.After(d).Told != s.Table {
		t.Errorf("%+v, %v", d, err)
	}
}

// A view is shared: nothing that is computed from it may change it.
func TestViewsAreSharedWhereNothingChanged(t *testing.T) {
	v := &View{UIDs: UIDsOf(1, 2), UIDNext: 3, ModSeq: 5}
	d, err := Compare(v, &State{UIDs: v.UIDs, UIDNext: 3, ModSeq: 5, Since: 5})
	if err != nil || !d.Empty() || v.After(d) != v {
		t.Fatalf("%+v, %v", d, err)
	}
}

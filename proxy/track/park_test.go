package track

import (
	"testing"

	"imapproxy/proxy/park/view"
)

func TestCanPark(t *testing.T) {
	selected := func(change func(*InFlight)) *InFlight {
		f := &InFlight{selected: true}
		f.Client.Mailbox = Mailbox{Name: "INBOX", Validity: 1}
		change(f)
		return f
	}
	inIdle := func(f *InFlight) {
		f.open, f.idle = []Command{{}}, idleOn
	}
	leave := func(f *InFlight) (ParkMode, Blocker) { return f.CanLeave() }
	park := func(f *InFlight) (ParkMode, Blocker) { return f.CanPark() }
	byNumber := selected(func(f *InFlight) { f.Client.Mailbox.byNumber = true })
	if how, why := leave(byNumber); how != ModeSelected || why != BlockerNone {
		t.Errorf("by numbers, leaving: %d %q", how, why)
	}
	for name, c := range map[string]struct {
		f   *InFlight
		how ParkMode
		why Blocker
	}{
		"nothing selected":                {&InFlight{}, ModeUnselected, BlockerNone},
		"nothing selected, comparison":    {&InFlight{Client: Client{compared: true}}, ModeUnselected, BlockerNone},
		"by UIDs":                         {selected(func(*InFlight) {}), ModeSelected, BlockerNone},
		"by numbers":                      {selected(func(f *InFlight) { f.Client.Mailbox.byNumber = true }), ModeNone, BlockerByNumber},
		"by numbers, in IDLE":             {selected(func(f *InFlight) { inIdle(f); f.Client.Mailbox.byNumber = true }), ModeIdle, BlockerNone},
		"mod-sequences":                   {selected(func(f *InFlight) { f.Client.Dialect = view.CondStore }), ModeNone, BlockerModSeq},
		"mod-sequences, in IDLE":          {selected(func(f *InFlight) { inIdle(f); f.Client.Dialect = view.QResync }), ModeIdle, BlockerNone},
		"comparison":                      {selected(func(f *InFlight) { f.Client.compared = true }), ModeNone, BlockerCompared},
		"comparison, in IDLE":             {selected(func(f *InFlight) { inIdle(f); f.Client.compared = true }), ModeIdle, BlockerNone},
		"unknown state":                   {selected(func(f *InFlight) { f.Client.doubt = BlockerUnknown }), ModeNone, BlockerUnknown},
		"a saved search":                  {selected(func(f *InFlight) { inIdle(f); f.Client.Mailbox.doubt = BlockerSaved }), ModeNone, BlockerSaved},
		"a name that can't be said again": {selected(func(f *InFlight) { f.Client.Mailbox.Name = "" }), ModeNone, BlockerMailbox},
		"a literal half sent":             {selected(func(f *InFlight) { f.prompted = true }), ModeNone, BlockerCommand},
		"the end":                         {selected(func(f *InFlight) { f.logout = true }), ModeNone, BlockerEnding},
	} {
		if how, why := park(c.f); how != c.how || why != c.why {
			t.Errorf("%s: %d %q, want %d %q", name, how, why, c.how, c.why)
		}
		if how, why := leave(c.f); c.why != BlockerByNumber && (how != c.how || why != c.why) {
			t.Errorf("%s, leaving: %d %q, want %d %q", name, how, why, c.how, c.why)
		}
	}
}

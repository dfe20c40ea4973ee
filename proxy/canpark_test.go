package proxy

import (
	"testing"

	"imapproxy/proxy/park/view"
)

func TestCanPark(t *testing.T) {
	selected := func(change func(*flight)) *flight {
		f := &flight{selected: true}
		f.told.box = selection{name: "INBOX", validity: 1}
		change(f)
		return f
	}
	inIdle := func(f *flight) {
		f.open, f.idle = []command{{}}, idleOn
	}
	for name, c := range map[string]struct {
		f   *flight
		how way
		why kept
	}{
		"nothing selected":                {&flight{}, wayUnselect, keptNot},
		"nothing selected, comparison":    {&flight{told: told{compared: true}}, wayUnselect, keptNot},
		"by UIDs":                         {selected(func(*flight) {}), waySelected, keptNot},
		"by numbers":                      {selected(func(f *flight) { f.told.box.byNumber = true }), wayNone, keptByNumber},
		"by numbers, in IDLE":             {selected(func(f *flight) { inIdle(f); f.told.box.byNumber = true }), wayIdle, keptNot},
		"mod-sequences":                   {selected(func(f *flight) { f.told.dialect = view.CondStore }), wayNone, keptModSeq},
		"mod-sequences, in IDLE":          {selected(func(f *flight) { inIdle(f); f.told.dialect = view.QResync }), wayIdle, keptNot},
		"comparison":                      {selected(func(f *flight) { f.told.compared = true }), wayNone, keptCompared},
		"comparison, in IDLE":             {selected(func(f *flight) { inIdle(f); f.told.compared = true }), wayIdle, keptNot},
		"unknown state":                   {selected(func(f *flight) { f.told.doubt = keptUnknown }), wayNone, keptUnknown},
		"a saved search":                  {selected(func(f *flight) { inIdle(f); f.told.box.doubt = keptSaved }), wayNone, keptSaved},
		"a name that can't be said again": {selected(func(f *flight) { f.told.box.name = "" }), wayNone, keptMailbox},
		"a literal half sent":             {selected(func(f *flight) { f.prompted = true }), wayNone, keptCommand},
		"the end":                         {selected(func(f *flight) { f.logout = true }), wayNone, keptEnding},
	} {
		if how, why := c.f.canPark(); how != c.how || why != c.why {
			t.Errorf("%s: %d %q, want %d %q", name, how, why, c.how, c.why)
		}
	}
}

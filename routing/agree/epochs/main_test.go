package main

import "testing"

// fleets makes a sequence of fleets from words: where each fleet sends the bucket and, after a slash, the
// user that overrides move.
func fleets(t *testing.T, words ...string) (s scenario, last int8) {
	t.Helper()
	names := map[byte]backend{'x': x, 'y': y, 'z': z}
	for e, word := range words {
		s.bucket[e+1] = names[word[0]]
		if len(word) == 3 {
			s.override[e+1] = names[word[2]]
		}
	}
	return s, int8(len(words))
}

// The long form is `make epochs`.
func TestNoUserIsOnTwoBackends(t *testing.T) {
	for _, words := range [][]string{{"x", "y"}, {"x/y", "y"}, {"x", "y/x"}, {"x", "y/y"}, {"x/x", "x/y"}} {
		m := model{proxies: 2}
		m.scenario, m.last = fleets(t, words...)
		states, bad := m.explore()
		if bad != nil {
			t.Fatalf("the fleets are%s:\n%s", m.text(m.last), bad)
		}
		if states < 3_000 {
			t.Errorf("%v: %d states: the model has lost most of its steps", words, states)
		}
		t.Logf("%v: %d states", words, states)
	}
}

// Each rule is needed: without it there is a violation. For the rule `join` see the next test.
func TestEachRuleIsNeeded(t *testing.T) {
	for r, words := range map[rule][]string{
		ruleStays:           {"x", "y"},
		ruleAll:             {"x", "y"},
		ruleFollow:          {"x", "y"},
		ruleVoid:            {"x", "y"},
		ruleReading:         {"x", "y", "x"},
		ruleDeath:           {"x", "y"},
		rulePin:             {"x", "y"},
		ruleSteady:          {"x", "x/y", "y"},
		ruleUserFirst:       {"x", "x/y", "y"},
		ruleOverrideAdded:   {"x", "x/y"},
		ruleOverrideRemoved: {"x/y", "y"},
	} {
		t.Run(r.String(), func(t *testing.T) {
			m := model{proxies: 2, without: []rule{r}}
			m.scenario, m.last = fleets(t, words...)
			states, bad := m.explore()
			if bad == nil {
				t.Fatalf("%d states, and no violation", states)
			}
			t.Logf("%d states, the fleets are%s:\n%s", states, m.text(m.last), bad)
		})
	}
}

// `reading` covers `join`: where both are left out there is a violation, and none where one of them is kept. So `join`
// is a second line of defence.
func TestReadingCoversJoin(t *testing.T) {
	for _, c := range []struct {
		name    string
		without []rule
		bad     bool
		fleets  []string
	}{
		{"without join", []rule{ruleJoin}, false, []string{"x", "x/y"}},
		{"without join, longer", []rule{ruleJoin}, false, []string{"x", "y"}},
		{"without reading, where join is enough", []rule{ruleReading}, false, []string{"x", "x/y"}},
		{"without both", []rule{ruleReading, ruleJoin}, true, []string{"x", "x/y"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := model{proxies: 2, without: c.without}
			m.scenario, m.last = fleets(t, c.fleets...)
			states, bad := m.explore()
			if (bad != nil) != c.bad {
				t.Fatalf("%d states; violation: %v", states, bad)
			}
			t.Logf("%d states, violation: %v", states, bad)
		})
	}
}

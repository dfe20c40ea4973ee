package main

import (
	"strings"
	"testing"

	"imapproxy/internal/admin"
)

// An operator sees which capability is missing where, and of which backends nothing is known.
func TestBackendsShowTheirCapabilities(t *testing.T) {
	backends := []admin.Backend{
		{ID: "b1", State: "up", CapabilitiesFrom: admin.FromLogin, Capabilities: []string{"IMAP4rev1", "MOVE", "SORT"}},
		{ID: "b2", State: "draining", CapabilitiesFrom: admin.FromLogin, Capabilities: []string{"IMAP4rev1", "move"}},
		{ID: "b3", State: "down", CapabilitiesFrom: admin.FromLogin, Capabilities: []string{"IMAP4rev1"}},
		{ID: "b4", State: "up", CapabilitiesFrom: admin.FromGreeting, Capabilities: []string{"IMAP4rev1", "IDLE"}},
		{ID: "b5", State: "up"},
	}
	for name, test := range map[string]struct {
		backends []admin.Backend
		want     []string
		not      string
	}{
		"a difference":     {backends, []string{"CAPABILITY  b1   b2\nSORT        yes  -\n", "b3: it is down", "b4: no user has logged in there yet; before login it lists IMAP4rev1 IDLE", "b5: not known yet"}, "MOVE"},
		"no difference":    {[]admin.Backend{backends[1], {ID: "b6", State: "up", CapabilitiesFrom: admin.FromLogin, Capabilities: []string{"MOVE", "IMAP4rev1"}}}, []string{"2 backends have the same capabilities"}, "CAPABILITY"},
		"nothing is known": {backends[4:], []string{"b5: not known yet"}, "same"},
	} {
		var b strings.Builder
		if err := showCapabilities(&b, admin.Backends{Backends: test.backends, Differences: admin.Differences(test.backends)}); err != nil {
			t.Fatal(err)
		}
		for _, want := range test.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: no %q in\n%s", name, want, b.String())
			}
		}
		if strings.Contains(b.String(), test.not) {
			t.Errorf("%s: %q in\n%s", name, test.not, b.String())
		}
	}
}

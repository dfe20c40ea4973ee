package main

import (
	"fmt"
	"strings"
	"testing"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
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

// The operator learns from check which backend lacks what the others have, if a user can be logged in at both.
func TestCheckWarnsOfCapabilitiesThatDiffer(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	var list strings.Builder
	for i, caps := range []string{"IMAP4rev1 IDLE MOVE SORT", "IMAP4rev1 IDLE sort"} {
		b := imaptest.NewBackend(t, imaptest.Dialogue{LoginCaps: caps, Commands: map[string]imaptest.CommandFunc{
			"*": func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " OK done") },
		}}.Serve)
		fmt.Fprintf(&list, "  backend \"b%d\" {\n    address = %q\n  }\n", i+1, b.Addr)
	}
	text := strings.Replace(file(nil, ""), "discovery \"static\" {\n", "discovery \"static\" {\n"+list.String(), 1)
	r := check(t, text, "alice", "secret-1")
	said := r.stdout.String()
	if !strings.Contains(said, "MOVE: b1 has it, b2 lacks it") || strings.Contains(said, "SORT:") || r.code != exitOK {
		t.Errorf("exit code %d:\n%s", r.code, said)
	}
	if r := check(t, text, "", ""); strings.Contains(r.stdout.String(), "lacks it") {
		t.Errorf("without a login:\n%s", r.stdout)
	}
}

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/admin"
)

// What all proxies still have at a paused backend is added up, with what holds it.
func TestAPauseIsAddedUp(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) *time.Time { return new(now.Add(d)) }
	of := func(p ...admin.Pause) *admin.Backends { return &admin.Backends{Pauses: p} }
	all := admin.Cluster[admin.Backends]{Proxies: []admin.FromProxy[admin.Backends]{
		{Answer: of(admin.Pause{Backend: "imap1", StableID: "b1", Until: at(50 * time.Second), Connections: 3, Sessions: map[string]int{"attached": 2, "parked": 3}, Held: map[string]int{"command": 1}})},
		{Answer: of(admin.Pause{Backend: "imap1", StableID: "b1", Until: at(51 * time.Second), Connections: 1, Sessions: map[string]int{"attached": 1}, Held: map[string]int{"notify": 1}}, admin.Pause{Backend: "imap9", StableID: "b9"})},
		{Answer: of()},
		{Error: "no answer"},
	}}
	p := pauseOf(all, "imap1")
	if p == nil || pauseOf(all, "b1") == nil || pauseOf(all, "imap2") != nil {
		t.Fatalf("%+v", p)
	}
	want := "imap1: paused for another 51s; 4 connections left; sessions: 3 attached, 3 parked; held by: 1 command, 1 notify"
	if got := pauseWords(*p, now); got != want || pauseDone(*p) {
		t.Errorf("\n%s, want\n%s", got, want)
	}
	if all.Proxies[0].Answer.Pauses[0].Sessions["attached"] != 2 {
		t.Error("the answers have changed")
	}
	for _, c := range []struct {
		p    admin.Pause
		done bool
	}{
		{admin.Pause{}, true},
		{admin.Pause{Sessions: map[string]int{"parked": 9, "resuming": 2}}, true}, // two clients wait
		{admin.Pause{Connections: 1, Sessions: map[string]int{"parked": 9}}, false},
		{admin.Pause{Sessions: map[string]int{"parking": 1}}, false},
	} {
		if pauseDone(c.p) != c.done || strings.Contains(pauseWords(c.p, now), "restart it now") != c.done {
			t.Errorf("%+v: %s", c.p, pauseWords(c.p, now))
		}
	}
}

func TestADryRunSaysWhatAPauseWouldHold(t *testing.T) {
	var out bytes.Buffer
	of := func(p admin.Pause) *admin.PauseAnswer { return &admin.PauseAnswer{DryRun: true, Pause: p} }
	all := admin.Cluster[admin.PauseAnswer]{Proxies: []admin.FromProxy[admin.PauseAnswer]{
		{Answer: of(admin.Pause{Backend: "imap1", Connections: 3, Sessions: map[string]int{"attached": 3}, Held: map[string]int{"command": 2}})},
		{Answer: of(admin.Pause{Backend: "imap1", Connections: 4, Sessions: map[string]int{"parked": 4}})},
		{Proxy: "p3", Error: "it is away"},
	}}
	if err := showDryPause(&out, all); err == nil {
		t.Error("a proxy that doesn't answer makes no difference")
	}
	for _, part := range []string{"imap1 would be paused: 7 sessions there, 7 connections", "sessions: 4 parked, 3 attached", "what holds them now: 2 command", "p3: it is away"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q isn't in\n%s", part, out.String())
		}
	}
}

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/admin"
)

// What proxies say of a drain is added up; a proxy that says nothing of it, or doesn't answer, adds nothing.
func TestADrainIsAddedUp(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) *time.Time { return new(now.Add(d)) }
	of := func(d ...admin.Drain) *admin.Backends { return &admin.Backends{Drains: d} }
	all := admin.Cluster[admin.Backends]{Proxies: []admin.FromProxy[admin.Backends]{
		{Answer: of(admin.Drain{Backend: "imap1", StableID: "b1", Operator: true, Users: 10, Started: 40, Begun: at(-10 * time.Second), Ends: at(5 * time.Second), Deadline: at(time.Minute),
			Sessions: map[string]int{"attached": 2, "parked": 3}, Held: map[string]int{"command": 1}})},
		{Answer: of(admin.Drain{Backend: "imap1", StableID: "b1", Operator: true, Users: 5, Started: 5, Begun: at(-9 * time.Second), Ends: at(7 * time.Second),
			Sessions: map[string]int{"attached": 1}, Held: map[string]int{"command": 1, "notify": 3}}, admin.Drain{Backend: "imap9", StableID: "b9"})},
		{Answer: of()},
		{Error: "no answer"},
	}}
	d := drainOf(all, "imap1")
	if d == nil || drainOf(all, "b1") == nil || drainOf(all, "imap2") != nil {
		t.Fatalf("%+v", d)
	}
	want := "imap1: connections of 15 users left of 45, 3 a second so far; sessions: 3 attached, 3 parked; held by: 3 notify, 2 command; all have had their turn in 7s; what is left is ended in 1m00s"
	if got := d.Progress(now); got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
	for want, d := range map[string]admin.Drain{
		"b1: connections of 0 users left of 9, 4.5 a second so far; sessions: 3 parked; done":                                            {Backend: "b1", Started: 9, Begun: at(-2 * time.Second), Sessions: map[string]int{"parked": 3}},
		"b1: connections of 2 users left; no user is asked to leave before p2, p3 knows of it, or is taken for dead (imapproxy proxies)": {Backend: "b1", Users: 2, Ends: at(time.Second), WaitsFor: []string{"p2", "p3"}},
		"b1: connections of 2 users left; not begun":                                                                                     {Backend: "b1", Users: 2},
		"b1: connections of 1 user left; those who are left are asked again; sessions of 4 users ended":                                  {Backend: "b1", Users: 1, Ends: at(-time.Second), Deadline: at(-time.Second), Ended: 4},
		"\uFFFDb: connections of 1 user left; those who are left are asked again; what is left is ended in 59s":                          {Backend: "\x1bb", Users: 1, Ends: at(-time.Second), Deadline: at(59 * time.Second)},
	} {
		if got := d.Progress(now); got != want {
			t.Errorf("\n%s, want\n%s", got, want)
		}
	}
	if all.Proxies[0].Answer.Drains[0].Sessions["attached"] != 2 {
		t.Error("the answers have changed")
	}
}

func TestADryRunSaysWhoWouldBeMoved(t *testing.T) {
	var out bytes.Buffer
	all := admin.Cluster[admin.DrainAnswer]{Proxies: []admin.FromProxy[admin.DrainAnswer]{
		{Answer: &admin.DrainAnswer{Backend: "imap1", Users: 3, Moves: map[string]int{"imap2": 2, "": 1}, Sessions: map[string]int{"attached": 3}}},
		{Answer: &admin.DrainAnswer{Backend: "imap1", Users: 4, Moves: map[string]int{"imap3": 4}}},
		{Proxy: "p3", Error: "it is away"},
	}}
	if err := showDryDrain(&out, all); err == nil {
		t.Error("a proxy that doesn't answer makes no difference")
	}
	for _, part := range []string{"imap1 would be drained: connections of 7 users", "2 to imap2", "4 to imap3", "1 nowhere", "sessions there: 3 attached", "several of the 2 proxies", "p3: it is away"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q isn't in\n%s", part, out.String())
		}
	}
}

func TestADryRunSaysWhoWouldComeBack(t *testing.T) {
	var out bytes.Buffer
	all := admin.Cluster[admin.UndrainAnswer]{Proxies: []admin.FromProxy[admin.UndrainAnswer]{
		{Answer: &admin.UndrainAnswer{Backend: "imap1", State: "draining", RebalanceRate: 40, Users: 3, Back: map[string]int{"imap2": 2, "imap3": 1}}},
		{Answer: &admin.UndrainAnswer{Backend: "imap1", State: "draining", RebalanceRate: 40, Users: 4, Back: map[string]int{"imap3": 4}}},
		{Proxy: "p3", Error: "it is away"},
	}}
	if err := showDryUndrain(&out, all); err == nil {
		t.Error("a proxy that doesn't answer makes no difference")
	}
	for _, part := range []string{"imap1 would not be drained", "(now draining)", "connections of 7 users", "come back at 40 a second", "2 from imap2", "5 from imap3", "several of the 2 proxies", "p3: it is away"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q isn't in\n%s", part, out.String())
		}
	}
}

// With rebalance_rate 0 nothing is announced that doesn't happen.
func TestUsersWhoRestAreNotSaidToMove(t *testing.T) {
	now := time.Now()
	soon := now.Add(90 * time.Second)
	for _, c := range []struct {
		a    admin.Agreement
		want string
	}{
		{admin.Agreement{}, ""},
		{admin.Agreement{Stays: 7, MovesEnd: &soon}, "7 buckets and users are to be moved, the last in 1m"},
		{admin.Agreement{Stays: 1}, "1 bucket or user is to be moved"},
		{admin.Agreement{Stays: 7, Resting: 7}, "7 buckets and users are elsewhere than new logins, and not moved: " + admin.RestWords},
		{admin.Agreement{Stays: 7, Resting: 5}, "2 buckets and users are to be moved; 5 buckets and users are elsewhere than new logins, and not moved: " + admin.RestWords},
	} {
		got := c.a.Movement(now)
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%+v: %q, want %q", c.a, got, c.want)
		}
		if words := agreementWords(&c.a, admin.Status{Time: now}); !strings.HasSuffix(words, got) {
			t.Errorf("status says %q", words)
		}
	}
	none := admin.UndrainAnswer{}
	if got := none.Return(); !strings.Contains(got, "No connected user is moved back") {
		t.Error(got)
	}
}

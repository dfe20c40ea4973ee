package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/admin"
)

// A proxy that the others take into account, and whose admin address wasn't asked, may be alive: it isn't called
// silent. One that was asked and didn't answer is.
func TestAProxyThatWasNotAskedIsNotCalledSilent(t *testing.T) {
	all := admin.Cluster[admin.Status]{Proxies: []admin.FromProxy[admin.Status]{
		{Proxy: "p1", Address: "192.0.2.1:8143", Own: true, Answer: &admin.Status{
			Proxy: admin.Proxying{ID: "one"},
			Agreement: &admin.Agreement{Proxies: []admin.AgreedPeer{
				{ID: "one", Host: "h", Admin: "192.0.2.1:8143"},
				{ID: "two", Host: "h", Admin: "192.0.2.2:8143"},
				{ID: "three", Host: "h", Admin: "192.0.2.3:8143"},
				{ID: "four", Host: "h", Admin: ":8143"},
			}},
		}},
		{Proxy: "p3", Address: "192.0.2.3:8143", Error: "connection refused"},
	}}
	var out bytes.Buffer
	if !showUnheard(&out, all) {
		t.Error("no proxy is silent")
	}
	paragraphs := strings.Split(strings.Trim(out.String(), "\n"), "\n\n")
	if len(paragraphs) != 3 {
		t.Fatalf("%q", paragraphs)
	}
	for i, parts := range [][]string{
		{"isn't listed, and wasn't asked", "imapproxy status --admin 192.0.2.2:8143", "proxies remove two"},
		{"doesn't answer", "192.0.2.3:8143", "proxies remove three"},
		{"doesn't answer", "proxies remove four"},
	} {
		for _, part := range parts {
			if !strings.Contains(paragraphs[i], part) {
				t.Errorf("%q isn't in %q", part, paragraphs[i])
			}
		}
	}
	if strings.Contains(paragraphs[0], "doesn't answer") {
		t.Errorf("a proxy that wasn't asked is called silent: %q", paragraphs[0])
	}
}

// What a killed process has left in Consul isn't a proxy that doesn't answer, if a later process answers there.
func TestAnEarlierProcessIsNotCalledSilent(t *testing.T) {
	killed, now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	all := admin.Cluster[admin.Status]{Proxies: []admin.FromProxy[admin.Status]{
		{Proxy: "p1", Address: "192.0.2.1:8143", Own: true, Answer: &admin.Status{
			Proxy: admin.Proxying{ID: "one"},
			Agreement: &admin.Agreement{Proxies: []admin.AgreedPeer{
				{ID: "one", Host: "h1", Admin: "192.0.2.1:8143", Started: now},
				{ID: "killed", Host: "h2", Admin: ":8143", Started: killed},
				{ID: "two", Host: "h2", Admin: ":8143", Started: now},
				{ID: "before", Host: "h1", Admin: "192.0.2.1:8143", Started: killed},
			}},
		}},
		{Proxy: "p2", Address: "192.0.2.2:8143", Answer: &admin.Status{Proxy: admin.Proxying{ID: "two"}}},
	}}
	var out bytes.Buffer
	if err := showProxies(&out, proxyColumns(), all); err != nil {
		t.Errorf("both proxies answer: %v", err)
	}
	for _, part := range []string{"An earlier process of the proxy on h2", "proxies remove killed", "An earlier process of the proxy on h1, admin address 192.0.2.1:8143", "proxies remove before"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q isn't in\n%s", part, out.String())
		}
	}
	if strings.Contains(out.String(), "doesn't answer") {
		t.Errorf("a process that was killed is called silent:\n%s", out.String())
	}
	all.Proxies = all.Proxies[:1] // without the second one's answer
	if err := showProxies(&out, proxyColumns(), all); err == nil {
		t.Error("one proxy doesn't answer, and the exit code doesn't say so")
	}
}

// A name that no proxy knows is a mistake, and no successful kick.
func TestAKickOfWhatNoProxyKnows(t *testing.T) {
	answers := func(all ...admin.KickAnswer) (c admin.Cluster[admin.KickAnswer]) {
		for i := range all {
			c.Proxies = append(c.Proxies, admin.FromProxy[admin.KickAnswer]{Answer: &all[i]})
		}
		return c
	}
	none, known, ended := admin.KickAnswer{}, admin.KickAnswer{Known: true}, admin.KickAnswer{Count: 1}
	for _, c := range []struct {
		k    admin.KickRequest
		all  admin.Cluster[admin.KickAnswer]
		want string
	}{
		{admin.KickRequest{Backend: "b9"}, answers(none, none), `there is no backend "b9"`},
		{admin.KickRequest{Session: "s9"}, answers(none, none), `there is no session "s9"`},
		{admin.KickRequest{User: "ann", Session: "s9"}, answers(none), `ann has no session "s9"`},
		{admin.KickRequest{User: "ann"}, answers(none, none), ""},
		{admin.KickRequest{Session: "s1"}, answers(none, known), ""},
		{admin.KickRequest{Backend: "b1"}, answers(none, ended), ""}, // of an older release
		{admin.KickRequest{Backend: "b1"}, admin.Cluster[admin.KickAnswer]{Proxies: []admin.FromProxy[admin.KickAnswer]{{Error: "refused"}}}, ""},
	} {
		err := unknown(c.k, c.all)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.k, err, c.want)
		}
	}
}

func TestASessionWithoutAReasonIsShownWithoutASpace(t *testing.T) {
	var out bytes.Buffer
	if err := showUser(&out, admin.User{User: "ann", Sessions: []admin.Session{{ID: "s1", Backend: "imap1", Attachment: "parked"}, {ID: "s2", Backend: "imap1", Attachment: "attached", NotParked: "command"}}}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"on imap1, parked, from", "on imap1, attached (command), from"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q isn't in\n%s", part, out.String())
		}
	}
}

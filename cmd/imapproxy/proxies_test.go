package main

import (
	"bytes"
	"strings"
	"testing"

	"imapproxy/internal/admin"
)

// A proxy that the others count with, and whose admin address nothing was asked at, may be alive: it isn't called
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
	if err := showUnheard(&out, all); err != nil {
		t.Fatal(err)
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

package app

import (
	"fmt"
	"testing"

	"imapproxy/routing/discovery"
)

// A proxy whose earlier process has left an entry under another id is asked once.
func TestAProxyWithTwoEntriesIsAskedOnce(t *testing.T) {
	found := asPeers([]discovery.ProxyInstance{
		{ID: "a", Admin: "192.0.2.1:8143"}, {ID: "b", Admin: "192.0.2.1:8143", Passing: true}, {ID: "c", Admin: "192.0.2.2:8143", Passing: true},
		{ID: "d", Admin: "192.0.2.2:8143"}, {ID: "e"}, {ID: "f"},
	})
	if got, want := fmt.Sprint(found), "[{b 192.0.2.1:8143 false} {c 192.0.2.2:8143 false} {e  true} {f  true}]"; got != want {
		t.Errorf("asked are %s, want %s", got, want)
	}
}

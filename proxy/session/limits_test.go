package session

import "testing"

func TestDescriptorsAreKeptFromClients(t *testing.T) {
	for _, c := range []struct{ files, reserve, sessions, backends, prelogin int }{
		{100, 50, 0, 0, 12}, {1024, 96, 0, 0, 232}, {20000, 689, 0, 0, 4827}, {1 << 20, 32832, 0, 0, 16384},
		{1024, 96, 348, 348, 232}, {1024, 96, 400, 400, 128}, {1024, 96, 464, 464, 1},
	} {
		l := Limits{Descriptors: c.files}
		if got := l.prelogin(c.sessions, c.backends); l.reserve() != c.reserve || got != c.prelogin {
			t.Errorf("of %d files %d are kept and with %d sessions %d are for who hasn't logged in; want %d and %d", c.files, l.reserve(), c.sessions, got, c.reserve, c.prelogin)
		}
	}
}

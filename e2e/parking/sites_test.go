package parking

import (
	"cmp"
	"strings"
	"sync/atomic"
	"testing"

	"imapproxy/e2e/servers"
)

// cyrusUsers is how many a Cyrus gets that serves few tests: making one takes it 10 ms.
const cyrusUsers = 100

// A site is a server and how the proxies before it watch it.
type site struct {
	*servers.Server
	watch  string
	events *events // where it posts its events; nil: nowhere
	users  int     // how many it has; 0: servers.Users
	last   atomic.Int32
}

// newUser is one that no test has used yet on this server.
func (s *site) newUser(t testing.TB) string {
	t.Helper()
	n := int(s.last.Add(1))
	if n > cmp.Or(s.users, servers.Users) {
		t.Fatalf("%s has no more users", s.Name)
	}
	return s.User(n)
}

// A variant is a kind of site.
type variant struct {
	name  string
	start func(t testing.TB) *site
}

func variants() []variant {
	dovecot := func(store, watch string) func(testing.TB) *site {
		return func(t testing.TB) *site {
			return &site{Server: servers.StartDovecot(t, servers.DovecotOptions{Store: store}), watch: watch}
		}
	}
	mox := func(watch string) func(testing.TB) *site {
		return func(t testing.TB) *site { return &site{Server: servers.StartMox(t), watch: watch} }
	}
	return []variant{
		{"cyrus-idle", func(t testing.TB) *site { return &site{Server: servers.StartCyrus(t), watch: "idle"} }},
		{"cyrus-push", cyrusWithEvents},
		{"sdbox-idle", dovecot("sdbox", "idle")},
		{"maildir-idle", dovecot("maildir", "idle")},
		{"sdbox-push", dovecotWithEvents},
		{"sdbox-notify", dovecot("sdbox", "notify")},
		{"mox-idle", mox("idle")},
		{"mox-notify", mox("notify")},
	}
}

func containsAny(name, words string) bool {
	for word := range strings.FieldsSeq(words) {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

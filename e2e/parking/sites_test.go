package parking

import (
	"strings"
	"sync/atomic"
	"testing"

	"imapproxy/e2e/servers"
)

// cyrusUsers is how many a Cyrus gets here: making one takes it 10 ms.
const cyrusUsers = 40

// A site is a server and how the proxies before it watch it.
type site struct {
	*servers.Server
	watch  string
	events *events // where it posts its events; nil: nowhere
	last   atomic.Int32
}

// newUser is one that no test has used yet on this server.
func (s *site) newUser(t testing.TB) string {
	t.Helper()
	n := int(s.last.Add(1))
	if n > servers.Users || s.Kind == "cyrus" && n > cyrusUsers {
		t.Fatalf("%s has no more users", s.Name)
	}
	return servers.User(n)
}

// A variant is a kind of site.
type variant struct {
	name  string
	watch string
	start func(t testing.TB) (*servers.Server, *events)
}

func variants() []variant {
	dovecot := func(store string) func(testing.TB) (*servers.Server, *events) {
		return func(t testing.TB) (*servers.Server, *events) {
			return servers.StartDovecot(t, servers.DovecotOptions{Store: store}), nil
		}
	}
	return []variant{
		{"sdbox-idle", "idle", dovecot("sdbox")},
		{"sdbox-notify", "notify", dovecot("sdbox")},
		{"sdbox-push", "push", dovecotWithEvents},
		{"maildir-idle", "idle", dovecot("maildir")},
		{"cyrus-idle", "idle", func(t testing.TB) (*servers.Server, *events) {
			return servers.StartCyrusWith(t, servers.CyrusOptions{Users: cyrusUsers}), nil
		}},
		{"cyrus-push", "push", cyrusWithEvents},
	}
}

// onEach runs f on each variant whose name contains one of these words, at the same
// time.
func onEach(t *testing.T, which string, f func(t *testing.T, s *site)) {
	t.Helper()
	servers.Real(t)
	for _, v := range variants() {
		if !containsAny(v.name, which) {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			s := &site{watch: v.watch}
			s.Server, s.events = v.start(t)
			f(t, s)
		})
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

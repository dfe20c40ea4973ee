package problems

import (
	"os"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// ordinary is a proxy on an ordinary day: some answers are slow, one login was refused, a certificate is two thirds through its
// life, a watch was lost an hour ago, a backend is drained and another one paused.
func ordinary() *Snapshot {
	return &Snapshot{
		Now: now, Started: now.Add(-100 * time.Hour), Version: "1.2",
		Backends: []Backend{
			{Name: "b1", State: "up", Weight: 1, Answers: 1000, Slow: 40, Refused: 1, Waiting: 3, Failures: 1, LastError: "refused"},
			{Name: "b2", State: "draining"},
			{Name: "b3", State: "down", Paused: true, Suspect: true, Waiting: 9},
			{Name: "b4", State: "down", Gone: true},
		},
		Consul:       &Consul{Answered: now.Add(-75 * time.Second)},
		Proxies:      []Proxy{{Name: "p2", Version: "1.2", Lives: true}},
		Policy:       Policy{Failures: 2, Error: "timeout"},
		Certificates: []Cert{{Of: "imaps", NotBefore: now.Add(-60 * 24 * time.Hour), NotAfter: now.Add(30 * 24 * time.Hour)}, {Of: "short", NotBefore: now.Add(-3 * 24 * time.Hour), NotAfter: now.Add(3 * 24 * time.Hour)}},
		Descriptors:  Use{7000, 10000}, Memory: Use{800, 1000}, Sessions: Use{Used: 5000},
		Shortages: []Shortage{{Of: "ports", At: "dial", Last: now.Add(-time.Hour)}},
		Watches:   Watches{Lost: 7, Last: now.Add(-time.Hour)},
		Push:      &Push{Mailboxes: 300, Last: now.Add(-30 * time.Minute), Refused: now.Add(-time.Hour), Why: "wrong token"},
	}
}

// An ordinary day has no problems, and each state that is one is named.
func TestFind(t *testing.T) {
	for _, p := range Find(ordinary()) {
		t.Errorf("on an ordinary day: %+v", p)
	}
	seen := map[Kind]bool{}
	for _, c := range []struct {
		name string
		set  func(*Snapshot)
		want Kind
		crit bool
		says string // subject: text
	}{
		{"no backend is up", func(s *Snapshot) { s.Backends = []Backend{{Name: "b1", State: "down"}} }, NoBackend, true, ": no backend is up: logins are refused with NO [UNAVAILABLE]"},
		{"logins were refused", func(s *Snapshot) { s.Backends, s.Refused = []Backend{{Name: "b1", State: "down"}}, 7 }, NoBackend, true, ": no backend is up: logins are refused with NO [UNAVAILABLE], 7 in the last 5 minutes"},
		{"the whole node is in maintenance", func(s *Snapshot) {
			s.Backends = []Backend{{Name: "b1", State: "draining", Weight: 1}, {Name: "b2", State: "draining", Weight: 1}}
		}, NoBackend, true, ": no backend takes new users, since 2 backends are in maintenance, drained, or without weight: their logins are refused with NO [UNAVAILABLE]; connected users stay"},
		{"no weight is left", func(s *Snapshot) {
			s.Backends = []Backend{{Name: "b1", State: "up"}, {Name: "b2", State: "down"}}
		}, NoBackend, true, ": no backend takes new users, since 1 backend is in maintenance"},
		{"no backend is known", func(s *Snapshot) { s.Backends = nil }, NoBackend, true, ": no backend is known"},
		{"down, and nothing waits", func(s *Snapshot) { s.Backends[0] = Backend{Name: "b1", State: "down", Reason: "critical"} }, BackendDown, false, "b1: is down (critical)"},
		{"down, and clients wait", func(s *Snapshot) { s.Backends[0] = Backend{Name: "b1", State: "down", Waiting: 1, Refused: 5} }, BackendDown, true, "b1: is down; 1 session waiting for it, 5 logins refused in the last 5 minutes"},
		{"gone, and clients are refused", func(s *Snapshot) { s.Backends[3].Refused = 2 }, BackendDown, true, "b4: is down; 2 logins refused"},
		{"unreachable", func(s *Snapshot) {
			s.Backends[0].Suspect, s.Backends[0].Failures, s.Backends[0].Waiting, s.Backends[0].Refused = true, 4, 0, 0
		}, BackendDown, false, "b1: can't be reached, 4 connections failed in a row (refused)"},
		{"slow", func(s *Snapshot) { s.Backends[0].Slow = 100 }, BackendSlow, false, "b1: is slow: 100 of 1000 logins and commands"},
		{"silent", func(s *Snapshot) { s.Backends[0].GivenUp = 3 }, BackendSlow, true, "b1: hangs: 3 connections"},
		{"kept", func(s *Snapshot) { s.Backends[0].Kept = true }, BackendKept, false, "b1: is used although discovery"},
		{"Consul is silent", func(s *Snapshot) { s.Consul.Answered = now.Add(-151 * time.Second) }, ConsulSilent, false, ": Consul does not answer"},
		{"Consul never answered", func(s *Snapshot) { s.Consul.Answered = time.Time{} }, ConsulSilent, false, ": Consul has not answered since the start"},
		{"the saved set", func(s *Snapshot) { s.Consul.Saved = true }, ConsulSilent, false, ": Consul has not answered since the start: the backends"},
		{"no fleet", func(s *Snapshot) { s.Consul.Outage = now.Add(-time.Second) }, ConsulSilent, false, ": Consul has no fleet"},
		{"isolated, and serves", func(s *Snapshot) { s.Isolated = "serve" }, Isolated, false, ": this proxy is cut off"},
		{"isolated, and holds", func(s *Snapshot) { s.Isolated = "hold" }, Isolated, true, "its logins wait"},
		{"another proxy died", func(s *Snapshot) { s.Proxies[0].Lives = false }, ProxyGone, false, "p2: doesn't renew"},
		{"another version", func(s *Snapshot) { s.Proxies[0].Version = "1.1" }, ProxyVersion, false, "p2: has version 1.1, this proxy has 1.2"},
		{"the policy server is silent", func(s *Snapshot) { s.Policy = Policy{Failures: 3, Error: "timeout"} }, PolicySilent, false, ": the policy server does not answer, logins go on without it (timeout)"},
		{"and logins are refused", func(s *Snapshot) { s.Policy = Policy{Failures: 3, Rejects: true} }, PolicySilent, true, ": the policy server does not answer, logins are refused"},
		{"a certificate ends in 13 days", func(s *Snapshot) { s.Certificates[0].NotAfter = now.Add(13*24*time.Hour + 2) }, Certificate, false, "imaps: the certificate ends in 13 days"},
		{"a short one ends in a day", func(s *Snapshot) { s.Certificates[1].NotAfter = now.Add(12 * time.Hour) }, Certificate, false, "short: the certificate ends in 12 hours"},
		{"a certificate has ended", func(s *Snapshot) { s.Certificates[0].NotAfter = now }, Certificate, true, "imaps: the certificate has ended"},
		{"it isn't valid yet", func(s *Snapshot) { s.Certificates[0].NotBefore = now.Add(time.Hour) }, Certificate, true, "imaps: the certificate isn't valid before"},
		{"a list has ended", func(s *Snapshot) { s.Certificates[0].List, s.Certificates[0].NotAfter = true, now }, Certificate, true, "imaps: the revocation list has ended"},
		{"a list of a week ends in a day", func(s *Snapshot) {
			s.Certificates[0] = Cert{Of: "imaps clients CN=users", List: true, NotBefore: now.Add(-6 * 24 * time.Hour), NotAfter: now.Add(24 * time.Hour)}
		}, Certificate, false, "imaps clients CN=users: the revocation list ends in 24 hours"},
		{"its new files are bad", func(s *Snapshot) { s.Certificates[0].Error = "no key" }, Certificate, false, "imaps: the new certificate can't be used, the old one stays: no key"},
		{"a reload failed", func(s *Snapshot) { s.Reload = &Reload{At: now, Error: "config.hcl:4: x"} }, ReloadFailed, false, ": the last reload failed, and the old settings stay: config.hcl:4: x"},
		{"descriptors", func(s *Snapshot) { s.Descriptors.Used = 8000 }, Descriptors, false, ": 8000 of at most 10000 file descriptors"},
		{"no descriptors", func(s *Snapshot) { s.Descriptors.Used = 10000 }, Descriptors, true, ": 10000 of at most 10000"},
		{"memory", func(s *Snapshot) { s.Memory = Use{950 << 20, 1000 << 20} }, Memory, false, ": 950 MiB of at most 1000 MiB"},
		{"sessions", func(s *Snapshot) { s.Sessions.Limit = 5500 }, SessionsLimit, false, ": 5000 of at most 5500 sessions"},
		{"a shortage", func(s *Snapshot) { s.Shortages[0].Last = now }, ShortageLately, true, "ports: the proxy itself ran out of ports (dial)"},
		{"watches lost", func(s *Snapshot) { s.Watches.Last = now }, WatchesLost, false, "(7 since the start)"},
		{"no push events", func(s *Snapshot) { s.Push.Last = now.Add(-61 * time.Minute) }, PushMissing, false, ": no push event has come since 10:59:00 UTC, and 300 mailboxes"},
		{"push events never came", func(s *Snapshot) { s.Push.Last = time.Time{} }, PushMissing, false, ": no push event has come since the start"},
		{"another crypto/tls", func(s *Snapshot) { s.UnknownTLS = "tls.Conn has no bytes.Buffer rawInput" }, UnknownTLS, false, "no bytes.Buffer rawInput"},
		{"push events are refused", func(s *Snapshot) { s.Push.Refused = now }, PushRefused, false, "(wrong token)"},
	} {
		s := ordinary()
		c.set(s)
		found := Find(s)
		var hit bool
		for _, p := range found {
			seen[p.Kind] = true
			hit = hit || p.Kind == c.want && p.Critical == c.crit && strings.Contains(p.Subject+": "+p.Text, c.says)
		}
		if !hit {
			t.Errorf("%s: %+v, want %s %q", c.name, found, c.want, c.says)
		}
		if len(found) > 1 && c.want != NoBackend {
			t.Errorf("%s: more than one problem: %+v", c.name, found)
		}
	}
	for _, k := range Kinds() {
		if !seen[k] {
			t.Errorf("no case for %s", k)
		}
	}
}

// With separate storage, users log in to a backend that drains, since no other has their mail.
func TestDrainsOfSeparateStorage(t *testing.T) {
	s := ordinary()
	s.Separate, s.Backends = true, []Backend{{Name: "b1", State: "draining", Weight: 1}}
	for _, p := range Find(s) {
		t.Errorf("%+v", p)
	}
}

// The worst come first.
func TestTheOrderOfProblems(t *testing.T) {
	s := ordinary()
	s.Reload = &Reload{At: now}
	s.Certificates[0].NotAfter = now
	s.Backends[0] = Backend{Name: "z", State: "down"}
	s.Backends[1] = Backend{Name: "a", State: "down"}
	var got []string
	for _, p := range Find(s) {
		got = append(got, string(p.Kind)+" "+p.Subject)
	}
	if text := strings.Join(got, ", "); text != "certificate imaps, backend_down a, backend_down z, reload_failed " {
		t.Error(text)
	}
}

// docs/operations.md says of each kind what it means and what to do; imapproxy explain shows it.
func TestProblemsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(b), "\n## Problems\n")
	if !found {
		t.Fatal("operations.md has no section Problems")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for _, k := range Kinds() {
		if !strings.Contains(text, "\n| `"+string(k)+"` | ") {
			t.Errorf("operations.md doesn't explain %s", k)
		}
	}
	if n := strings.Count(text, "\n| `"); n != len(Kinds()) {
		t.Errorf("operations.md has %d kinds, there are %d", n, len(Kinds()))
	}
}

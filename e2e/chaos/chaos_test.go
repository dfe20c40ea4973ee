package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"imapproxy/e2e/servers"
)

// number is a setting from the environment.
func number(t *testing.T, name string, or int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(or)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// One user, one backend, over all proxies, whatever fails: each fault in turn, and then, for as long as is asked for, at random.
func TestOneUserOneBackend(t *testing.T) {
	servers.Real(t)
	seed := uint64(number(t, "CHAOS_SEED", int(time.Now().UnixNano()%1e9)))
	isolated := cmp.Or(os.Getenv("CHAOS_ISOLATED"), "hold")
	minutes := number(t, "CHAOS_MINUTES", 0)
	users, sessions, ttl := 40, 100, shortTTL
	if minutes > 0 {
		users, sessions, ttl = servers.Users, 900, longTTL
	}
	users, sessions = min(number(t, "CHAOS_USERS", users), servers.Users-1), number(t, "CHAOS_SESSIONS", sessions)
	t.Logf("CHAOS_SEED=%d CHAOS_ISOLATED=%s, %d users, %d sessions", seed, isolated, users, sessions)

	l := startLab(t, labOptions{backends: 3, proxies: 3, together: true, isolated: isolated, ttl: ttl})
	s := &storm{lab: l, isolated: isolated, ttl: ttl, short: minutes == 0, rng: rand.New(rand.NewPCG(seed, 1))}
	var all []string
	for _, p := range l.proxies {
		all = append(all, p.peer())
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	still := watchStill(all, ttl, time.Now(), tick.C)
	s.clients = startSwarm(t, l.proxies, users, sessions, seed)
	s.do(fault{name: "all log in", waits: true}, func() {
		eventually(t, "most are logged in", func() error {
			if n := s.clients.online.Load(); int(n) < sessions*2/3 {
				return fmt.Errorf("%d of %d", n, sessions)
			}
			return nil
		})
	})
	s.do(fault{name: "nothing fails"}, func() { s.sleep(5 * time.Second) })

	faults := s.chosen(os.Getenv("CHAOS_FAULTS"))
	for _, f := range faults {
		f()
	}
	for over := time.Now().Add(time.Duration(minutes) * time.Minute); time.Now().Before(over); {
		faults[s.rng.IntN(len(faults))]()
	}
	plant(t, l)
	s.clients.stop()
	for _, f := range still() {
		t.Log(f)
		s.faults = append(s.faults, f)
	}
	s.verdict()
}

// planted is a user whom no client of the swarm is.
var planted = servers.User(servers.Users)

// plant has a user on two backends, past the proxies.
func plant(t *testing.T, l *lab) {
	t.Helper()
	a := direct(t, l.backends[0], planted)
	b := direct(t, l.backends[1], planted)
	time.Sleep(3 * resolution) // this is how long the user is on both
	_ = a.Close()
	_ = b.Close()
}

// verdict compares the backends' logs with the observations of the clients.
func (s *storm) verdict() {
	t := s.t
	end := time.Now()
	all, troubles := s.sessions()
	seen, longest := false, time.Duration(0)
	var bad []overlap
	for _, o := range overlaps(all, end) {
		if o.a.user == planted {
			seen = true
			continue
		}
		left := unexcused(o, s.excuses)
		if left > resolution {
			bad = append(bad, o)
			t.Errorf("a user is on two backends for %v (%v of it unexcused)%s", o, left, s.during(o.from, o.to))
		} else {
			longest = max(longest, left)
		}
	}
	if !seen {
		t.Error("the user who was put on two backends isn't seen there: the verdict says nothing")
	}
	t.Logf("%d logins at backends, %d by clients; %d commands, %d others told that messages are gone, %d times parked or idle; user-seconds on two backends: %v (the longest that isn't counted: %v)",
		len(all), s.clients.logins.Load(), s.clients.commands.Load(), s.clients.expunged.Load(), s.clients.idles.Load(), userSeconds(bad), longest)

	for _, p := range s.stopped {
		held, last := p.ended(all)
		t.Logf("%s had %d sessions when it was stopped, %d of them when it ran again; the last ended %v later", p.peer, held.stopped, held.again, last.Round(time.Millisecond))
		if held.again == 0 {
			t.Errorf("%s had no session any more when it ran again: nothing is proved by it", p.peer)
		}
		if s.isolated == "serve" {
			continue // it goes on with what it has until it is back
		}
		for _, o := range late(all, p, time.Second) {
			t.Errorf("a proxy that was stopped from %s to %s hasn't ended a session 1 s later: %v", p.from.Format(clock), p.again.Format(clock), o)
		}
		logged := 0
		for _, o := range all {
			if o.peer != p.peer || !o.from.Before(p.from) || !o.open && o.to.Before(p.again) {
				continue
			}
			lines, err := s.backendNamed(o.backend).commands(o)
			if err != nil {
				t.Fatal(err)
			}
			logged += len(lines)
			for _, c := range relayed(lines, p.again) {
				if ownCommand(c.text) {
					t.Logf("%s: the proxy's own %q, %v after it ran again", o.user, c.text, c.at.Sub(p.again).Round(time.Millisecond))
					continue
				}
				t.Errorf("a proxy that was stopped from %s to %s has sent %q at %s on a connection that it has lost: %v", p.from.Format(clock), p.again.Format(clock), c.text, c.at.Format(clock), o)
			}
		}
		t.Logf("%d commands of these sessions are in the backends' logs", logged)
		if logged == 0 {
			t.Error("no backend has logged a command of them: nothing is proved by it")
		}
	}

	was := func(user, backend string, from, to time.Time) bool {
		for _, o := range all {
			if o.user == user && o.backend == backend && o.from.Before(to) && (o.open || !o.to.Before(from)) {
				return true
			}
		}
		return false
	}
	kinds := map[string]int{}
	for _, e := range unexplained(s.clients.noted(), s.faults, was) {
		kinds[e.kind]++
		if kinds[e.kind] <= 10 {
			t.Errorf("no fault explains %v%s", e, s.during(e.since, e.at))
		}
	}
	if len(kinds) > 0 {
		t.Errorf("unexplained in all: %v", kinds)
	}
	for _, line := range troubles {
		t.Errorf("a backend is in trouble: %s", line)
	}
}

func (s *storm) backendNamed(name string) *backend {
	for _, b := range s.backends {
		if b.name == name {
			return b
		}
	}
	s.t.Fatalf("there is no backend %s", name)
	return nil
}

// during names the faults of a time.
func (s *storm) during(from, to time.Time) string {
	text := ""
	for _, f := range s.faults {
		if f.from.Before(to) && from.Before(f.to) {
			text += "\n    during: " + f.String()
		}
	}
	return text
}

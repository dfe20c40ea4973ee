package chaos

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// A fault is something that was done to the lab, and what it excuses, from its begin until all is well again.
type fault struct {
	name     string
	from, to time.Time
	proxies  []string // the addresses of the proxies whose clients may be cut off, or left without an answer
	backend  string   // users who were there may be cut off
	// waits says that logins may be refused for a while, and commands answered by NO, at all proxies: users are being moved while a
	// proxy that may hold them can't say so.
	waits bool
	// moves says that logins of users who are being moved may wait for longer than they are let (agree_within), and be refused. A user moves
	// once all of their sessions have come to a safe point.
	moves bool
	// isolates says that proxies may be isolated in it, as their logs say: Consul has no leader for longer than they trust what they know. With
	// "hold" their clients wait then.
	isolates bool
}

func (f fault) String() string {
	return fmt.Sprintf("%s %s to %s", f.name, f.from.Format(clock), f.to.Format(clock))
}

// explains says whether a client's ending is one that the fault may cause. at says whether a user had a session at a backend in a time.
func (f fault) explains(e ending, at func(user, backend string, from, to time.Time) bool) bool {
	if e.at.Before(f.from) || e.since.After(f.to) || e.kind == wrong {
		return false
	}
	for _, p := range f.proxies {
		if e.proxy == p {
			return true
		}
	}
	if f.backend != "" && at(e.user, f.backend, f.from.Add(-time.Second), f.to) {
		return true
	}
	return f.waits && (e.kind == refused || e.kind == no) || f.moves && e.kind == refused
}

// unexplained are the endings that no fault explains.
func unexplained(all []ending, faults []fault, at func(user, backend string, from, to time.Time) bool) (found []ending) {
next:
	for _, e := range all {
		for _, f := range faults {
			if f.explains(e, at) {
				continue next
			}
		}
		found = append(found, e)
	}
	return found
}

// A storm is faults, one after another, on a lab that clients use.
type storm struct {
	*lab
	isolated string
	ttl      time.Duration // the proxies' session_ttl
	short    bool
	rng      *rand.Rand
	clients  *swarm
	faults   []fault
	stopped  []stopped
	excuses  []excuse
	figures  []string
}

// chosen are the faults that are named, or all of them.
func (s *storm) chosen(names string) (faults []func()) {
	s.t.Helper()
	all := []struct {
		name string
		do   func()
	}{
		{"leader", s.leaderKilled}, {"drain", s.drained}, {"agent", s.agentStopped}, {"proxy", s.proxyKilled}, {"reach", s.backendCut},
		{"weight", s.weights}, {"backend", s.backendKilled}, {"consul", s.consulCut}, {"stop", s.proxyStopped}, {"apart", s.proxyApart}, {"dead", s.proxyDead},
	}
	if names == "" && s.short {
		all = all[:len(all)-2] // the one before them has the others move a proxy's users as well
	}
	for _, f := range all {
		if names == "" || slices.Contains(strings.Split(names, ","), f.name) {
			faults = append(faults, f.do)
		}
	}
	if len(faults) == 0 {
		s.t.Fatalf("CHAOS_FAULTS=%s names no fault", names)
	}
	return faults
}

func (s *storm) sleep(d time.Duration) { time.Sleep(d) } // a fault lasts

// do runs a fault until all is well again, and notes when it was.
func (s *storm) do(f fault, run func()) {
	s.t.Helper()
	f.from = time.Now()
	before := len(s.clients.noted())
	s.t.Logf("%s: %s", f.from.Format(clock), f.name)
	run()
	s.settle()
	f.to = time.Now()
	if f.isolates && s.isolated == "hold" {
		for _, p := range s.proxies {
			if p.wasIsolated(f.from) {
				s.t.Logf("    %s was isolated", p.name)
				f.proxies = append(f.proxies, p.peer())
			}
		}
	}
	s.faults = append(s.faults, f)
	waits := s.clients.waited(f.from, f.to)
	kinds, examples := map[string]int{}, ""
	for _, e := range s.clients.noted()[before:] {
		if kinds[e.kind]++; kinds[e.kind] == 1 {
			examples += "\n        " + e.String()
		}
	}
	longest, p99 := wait{}, wait{}
	if len(waits) > 0 {
		longest, p99 = waits[len(waits)-1], waits[len(waits)*99/100]
	}
	s.t.Logf("    %v: %d answers, 99 %% in %v, the last after %v (%s); %v; %d clients online%s", f.to.Sub(f.from).Round(time.Millisecond), len(waits),
		p99.took.Round(time.Millisecond), longest.took.Round(time.Millisecond), longest.what, kinds, s.clients.online.Load(), examples)
}

// settle returns when Consul has a leader and all backends, and all proxies are ready.
func (s *storm) settle() {
	s.t.Helper()
	eventually(s.t, "Consul has a leader", func() error {
		_, err := s.leader()
		return err
	})
	eventually(s.t, "all backends are there", func() error {
		answer, err := s.mail.do(http.MethodGet, "/v1/health/service/imap?passing", nil)
		if n := strings.Count(answer, `"Service":{`) + strings.Count(answer, `"Service": {`); err == nil && n != len(s.backends) {
			err = fmt.Errorf("%d of %d", n, len(s.backends))
		}
		return err
	})
	for _, p := range s.proxies {
		p.awaitReady()
	}
	s.sleep(3 * time.Second) // what has waited goes on
}

func (s *storm) aProxy() *proxy     { return s.proxies[s.rng.IntN(len(s.proxies))] }
func (s *storm) aBackend() *backend { return s.backends[s.rng.IntN(len(s.backends))] }

// consuls are the addresses at which a proxy's agent meets others.
func (s *storm) consuls(but *proxy) (addrs []string) {
	for _, a := range s.servers {
		addrs = append(addrs, a.on.addr)
	}
	addrs = append(addrs, s.mail.on.addr)
	for _, p := range s.proxies {
		if p != but {
			addrs = append(addrs, p.on.addr)
		}
	}
	return addrs
}

// leaderKilled kills Consul's leader, which comes back as a follower. Users whom a fault before has moved may still be on their way; they wait.
func (s *storm) leaderKilled() {
	s.do(fault{name: "Consul's leader is killed", moves: len(s.faults) > 2, isolates: true}, func() {
		leader, err := s.leader()
		if err != nil {
			s.t.Fatal(err)
		}
		leader.Kill()
		s.sleep(5 * time.Second)
		leader.start()
	})
}

// agentStopped has a proxy's agent hang, for longer than the proxy may trust what it knows.
func (s *storm) agentStopped() {
	p := s.aProxy()
	s.do(s.withoutConsul(p, p.name+"'s agent is stopped"), func() {
		p.agent.stop()
		s.sleep(s.ttl + 3*time.Second)
		p.agent.goOn()
	})
}

// consulCut cuts a proxy off from Consul.
func (s *storm) consulCut() {
	p := s.aProxy()
	s.do(s.withoutConsul(p, p.name+" is cut off from Consul"), func() {
		heal := p.on.cut(ports, s.consuls(p)...)
		s.sleep(s.ttl + 5*time.Second)
		heal()
	})
}

// withoutConsul is what a proxy without Consul excuses: its clients wait, if it is to hold.
func (s *storm) withoutConsul(p *proxy, name string) fault {
	f := fault{name: name, moves: true}
	if s.isolated == "hold" {
		f.proxies = []string{p.peer()}
	}
	return f
}

// backendCut cuts one proxy off from one backend.
func (s *storm) backendCut() {
	p, b := s.aProxy(), s.aBackend()
	s.do(fault{name: p.name + " can't reach " + b.name + " for 8 s", proxies: []string{p.peer()}, moves: true}, func() {
		heal := p.on.cut("", b.on.addr)
		s.sleep(8 * time.Second)
		heal()
	})
}

// proxyKilled kills a proxy, which is started again.
func (s *storm) proxyKilled() {
	p := s.aProxy()
	s.do(fault{name: p.name + " is killed", proxies: []string{p.peer()}, moves: true}, func() {
		p.Kill()
		s.sleep(3 * time.Second)
		p.start()
		p.awaitReady()
	})
}

// proxyDead kills a proxy, and drains a backend before the others take that proxy for dead. Their clients don't notice.
func (s *storm) proxyDead() {
	p := s.aProxy()
	s.do(fault{name: p.name + " is killed, and a backend is drained", proxies: []string{p.peer()}, waits: true}, func() {
		p.Kill()
		s.sleep(2 * time.Second)
		b, begin := s.aBackend(), time.Now()
		b.drain(true)
		s.emptied(b, "")
		s.t.Logf("    %s is empty after %v", b.name, time.Since(begin).Round(time.Millisecond))
		p.start()
		p.awaitReady()
		b.drain(false)
		s.sleep(3 * time.Second)
	})
}

// drained drains a backend until it is empty.
func (s *storm) drained() {
	b := s.aBackend()
	s.do(fault{name: b.name + " is drained", moves: true}, func() {
		begin := time.Now()
		b.drain(true)
		s.emptied(b, "")
		s.figures = append(s.figures, fmt.Sprintf("%s drained in %v", b.name, time.Since(begin).Round(time.Millisecond)))
		s.t.Logf("    empty after %v", time.Since(begin).Round(time.Millisecond))
		b.drain(false)
		s.sleep(3 * time.Second)
	})
}

// emptied waits until a backend has no session, but for those of one proxy. It fails the test when that doesn't come, and the storm
// goes on.
func (s *storm) emptied(b *backend, but string) {
	s.t.Helper()
	for late := time.Now().Add(patience + 3*s.ttl); ; s.sleep(100 * time.Millisecond) { // so long a dead proxy counts
		log, err := b.read()
		if err != nil {
			s.t.Fatal(err)
		}
		left := 0
		var one *session
		for _, o := range log.open {
			if o.peer != but {
				left, one = left+1, o
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(late) {
			s.t.Errorf("%s, which is drained, still has %d sessions after %v, among them %v", b.name, left, patience+3*s.ttl, one)
			return
		}
	}
}

// weights gives a backend another weight, and the old one again.
func (s *storm) weights() {
	b := s.aBackend()
	s.do(fault{name: b.name + " has a quarter of its weight", moves: true}, func() {
		b.register(25)
		s.sleep(10 * time.Second)
		b.register(100)
		s.sleep(5 * time.Second)
	})
}

// backendKilled kills a backend, which comes back.
func (s *storm) backendKilled() {
	b := s.aBackend()
	s.do(fault{name: b.name + " is killed", backend: b.name, waits: true}, func() {
		b.kill()
		s.sleep(10 * time.Second)
		b.again()
	})
}

// proxyStopped stops a proxy for so long that the others take it for dead, and move its users: a backend is drained meanwhile. Once it
// runs again, it relays nothing of what it has lost.
func (s *storm) proxyStopped() {
	p := s.aProxy()
	s.do(fault{name: p.name + " is stopped, and a backend is drained meanwhile", proxies: []string{p.peer()}, waits: true}, func() {
		b := s.busiest(p)
		from := time.Now()
		p.stop()
		s.sleep(2 * time.Second)
		b.drain(true)
		// Longer than it may be trusted, and until the others have moved its users.
		s.sleep(2*s.ttl + 10*time.Second)
		s.emptied(b, p.peer())
		s.t.Logf("    %s is empty but for what %s has, after %v", b.name, p.name, time.Since(from).Round(time.Millisecond))
		s.sleep(2 * time.Second)
		again := time.Now()
		p.goOn()
		s.stopped = append(s.stopped, stopped{peer: p.peer(), from: from, again: again})
		if s.isolated == "hold" {
			s.excuses = append(s.excuses, excuse{peer: p.peer(), from: from, to: again.Add(time.Second), again: again})
		} else {
			s.excuses = append(s.excuses, excuse{peer: p.peer(), from: from, to: s.rejoined(p, again).Add(yields), serves: true})
		}
		s.sleep(5 * time.Second)
		b.drain(false)
		s.sleep(3 * time.Second)
	})
}

// proxyApart cuts a proxy off from Consul for so long that the others take it for dead, and move its users: a backend is drained
// meanwhile. With "hold" it has no connections then; with "serve" it goes on, and its users may be on two backends until it is back.
func (s *storm) proxyApart() {
	p := s.aProxy()
	s.do(fault{name: p.name + " is cut off from Consul, and a backend is drained meanwhile", proxies: []string{p.peer()}, waits: true}, func() {
		b := s.busiest(p)
		from := time.Now()
		heal := p.on.cut(ports, s.consuls(p)...)
		s.sleep(2 * time.Second)
		b.drain(true)
		s.sleep(2*s.ttl + 10*time.Second) // as in proxyStopped
		s.emptied(b, p.peer())
		s.t.Logf("    %s is empty but for what %s has, after %v", b.name, p.name, time.Since(from).Round(time.Millisecond))
		heal()
		back := s.rejoined(p, time.Now())
		s.t.Logf("    %s is back after %v", p.name, back.Sub(from).Round(time.Millisecond))
		if s.isolated == "serve" {
			s.excuses = append(s.excuses, excuse{peer: p.peer(), from: from.Add(s.ttl), to: back.Add(yields), serves: true})
		}
		s.sleep(5 * time.Second)
		b.drain(false)
		s.sleep(3 * time.Second)
	})
}

const (
	shortTTL = 10 * time.Second // session_ttl in the short form
	longTTL  = 45 * time.Second // and in the long one, where it is the default: a dead proxy counts for longer than a client's command waits
	yields   = 2 * time.Second  // how long a proxy that is back may take to let go of users whom the others have moved
)

// wasIsolated says whether the proxy's log has it that it was isolated since a time.
func (p *proxy) wasIsolated(since time.Time) bool {
	p.t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		stamp, rest, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		if !strings.Contains(rest, "this proxy is isolated") {
			continue
		}
		if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil && !at.Before(since.Truncate(time.Millisecond)) {
			return true
		}
	}
	return false
}

// rejoined returns when a proxy is seen to be one of all again, by a renewal that was sent after a time.
func (s *storm) rejoined(p *proxy, after time.Time) time.Time {
	s.t.Helper()
	eventually(s.t, p.name+" joins again", func() error {
		text, err := p.get("/v1/status")
		if err != nil {
			return err
		}
		var status struct {
			Agreement struct {
				State   string
				Renewed time.Time
			}
		}
		if err := json.Unmarshal([]byte(text), &status); err != nil {
			return err
		}
		if a := status.Agreement; a.State != "joined" || a.Renewed.Before(after) {
			return fmt.Errorf("it is %s, renewed at %v", a.State, a.Renewed)
		}
		return nil
	})
	return time.Now()
}

// busiest is the backend at which a proxy has most sessions.
func (s *storm) busiest(p *proxy) *backend {
	s.t.Helper()
	best, most := s.backends[0], -1
	for _, b := range s.backends {
		log, err := b.read()
		if err != nil {
			s.t.Fatal(err)
		}
		n := 0
		for _, o := range log.open {
			if o.peer == p.peer() {
				n++
			}
		}
		if n > most {
			best, most = b, n
		}
	}
	return best
}

package agree

import (
	"bytes"
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"imapproxy/routing"
)

// world is a deterministic simulation of several proxies: the product's decision code, a fake of Consul,
// clients and faults, all from one seed.
type world struct {
	rng    *rand.Rand
	now    time.Duration
	events events
	seq    int
	err    error

	consul *fakeConsul
	nodes  []*node
	users  []string
	conns  map[string][]*conn // the truth, by user

	backends  []routing.Backend // what discovery says
	discovery uint64
	quiet     bool          // no more faults
	outage    time.Duration // Consul answers nothing until then
	lowLive   time.Duration // when fewer than three proxies counted last
	changedAt map[string]time.Duration
	fleet     *Fleet // that was written last, and its text
	fleetIs   []byte
	undrained map[string]bool // backends whose drain was to end, since it was made

	storage routing.Storage
	homes   map[string]string // placements
	rates   bool              // clocks run apart
	oneTime bool              // all clocks show the same time
	slow    float64           // RebalanceRate
	wrecks  bool              // operators wreck what stands in Consul
	noStart time.Duration     // no process is started until then
	saved   []saved
	good    map[string][]byte // values before they were wrecked

	endless map[string]bool // backends without power: the end of a connection never comes
	busy    map[string]bool // users whose sessions can't be parked

	mode    Mode
	without rule
	driver  driverRule
	served  int
	refused int
	moved   int
	ended   int
	epochs  int
	trace   func(format string, args ...any)
}

// driverRule is a rule that the code around the Member keeps.
type driverRule uint8

const (
	driverPin   driverRule = 1 << iota // rule 2: a claim counts as a connection from before its dial
	driverEnds                         // rule 4: a stay is taken out only when the ends of its connections have been seen
	driverGood                         // rule 2: claims go by good readings, and a reading and the switch to its fleet are one event
	driverTimer                        // a timer tells the Member that its deadline is over, also where no client comes
)

// conn is a backend connection, from its dial to its end.
type conn struct {
	node    *node
	backend string
	closing bool
	dead    bool // nothing is relayed on it any more
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

const (
	simTTL    = 10 * time.Second
	simWithin = time.Second
	simDamp   = 2 * time.Second
	simFault  = 60 * time.Second // faults happen until then
	simEnd    = 100 * time.Second
)

var epoch0 = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func newWorld(seed uint64, mode Mode, without rule, driver driverRule) *world {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 0x1a4f)), conns: make(map[string][]*conn), mode: mode, without: without, driver: driver, storage: routing.Shared,
		changedAt: make(map[string]time.Duration), undrained: make(map[string]bool), trace: func(string, ...any) {}, discovery: 1, slow: 5,
	}
	w.consul = newFakeConsul(w)
	for i := range 6 {
		w.users = append(w.users, fmt.Sprintf("user%d", i))
	}
	for i := range 3 {
		w.backends = append(w.backends, routing.Backend{ID: fmt.Sprintf("b%d", i+1), Address: "127.0.0.1:143", Weight: 100})
	}
	for i := range 3 + w.rng.IntN(3) {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	return w
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + d, w.seq, do})
}

// between is a random time.
func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rng.Int64N(int64(b-a)+1))
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("at %v: "+format, append([]any{w.now}, args...)...)
	}
}

// errNotSettled is wrapped if the proxies don't come to rest after the last fault.
var errNotSettled = errors.New("hasn't settled, long after the last fault")

// errNotServed is wrapped if no user is on two backends, but a claim waits for ever.
var errNotServed = errors.New("isn't served, long after the last fault")

// unsafe reports whether the error isn't only that a user, or a proxy, waits.
func unsafe(err error) bool {
	return err != nil && !errors.Is(err, errNotServed) && !errors.Is(err, errNotSettled)
}

// run runs the world until its end, or the first violation.
func (w *world) run() error {
	for _, n := range w.nodes {
		n.start()
	}
	w.after(0, w.login)
	w.after(w.between(0, 5*time.Second), w.fault)
	w.after(simFault, w.heal)
	if w.wrecks {
		w.good = make(map[string][]byte)
		w.after(w.between(5*time.Second, 15*time.Second), w.wreck)
		w.after(time.Second, w.save)
	}
	w.after(simEnd, w.last)
	w.until(simEnd + 20*time.Second)
	return w.err
}

// until does what happens until then, or until the first violation.
func (w *world) until(end time.Duration) {
	for len(w.events) > 0 && w.err == nil && w.events[0].at <= end {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	if w.err == nil {
		w.now = end
	}
}

// check checks the invariant: no user has connections on two backends. Two kinds of connections don't count:
// those of a stopped process, on which nothing is relayed; and, with Serve, those of an isolated proxy.
func (w *world) check(user string) {
	var first *conn
	for _, c := range w.conns[user] {
		if !c.counts() {
			continue
		}
		if first == nil {
			first = c
		}
		if c.backend != first.backend {
			w.fail("%s is on %s (proxy %s) and on %s (proxy %s)", user, first.backend, first.node.id(), c.backend, c.node.id())
		}
	}
}

func (w *world) checkAll() {
	for _, user := range w.users {
		w.check(user)
	}
}

func (c *conn) counts() bool {
	n := c.node
	switch {
	case c.dead, n.stopped:
		return false
	case n.w.mode == Serve:
		return !n.m.isolated && n.m.phase != outside && !n.clock().After(n.m.Deadline())
	}
	return true
}

// login is a client that comes, at a random proxy, and comes again.
func (w *world) login() {
	if w.now < simEnd-25*time.Second {
		w.after(w.between(0, 600*time.Millisecond), w.login)
	}
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	user := w.users[w.rng.IntN(len(w.users))]
	n.attempt(user, w.now+simWithin)
}

// fleetWritten checks what isn't about users: no backend's state changes back within flap_damp, but for what an
// operator's drain or its end changes; a backend
// that only one of three or more proxies can't reach isn't down; a drain ends only when an operator ends it;
// a drained backend doesn't come up; one that is up drains with the fleet that has its drain, and one that is
// up but for its drain comes up with the fleet that hasn't.
func (w *world) fleetWritten(was, is []byte) {
	w.epochs++
	next, err := DecodeFleet(is)
	if err != nil {
		w.fail("%v", err)
		return
	}
	prev, known := w.fleet, bytes.Equal(w.fleetIs, was)
	w.fleet, w.fleetIs = next, is
	if w.trace("fleet %d: %s", next.Epoch, is); was == nil || w.wrecks {
		return
	}
	if !known {
		if prev, err = DecodeFleet(was); err != nil {
			w.fail("%v", err)
			return
		}
	}
	for _, d := range prev.Drains {
		if next.drain(d.Backend) == nil && !w.undrained[d.Backend] {
			w.fail("the drain of %s is gone", d.Backend)
		}
	}
	for _, d := range next.Drains {
		if prev.drain(d.Backend) == nil {
			w.undrained[d.Backend] = w.undraining(d.Backend)
		}
		was, is := prev.backend(d.Backend), next.backend(d.Backend)
		if is != nil && is.State == routing.Up && (was == nil || was.State != routing.Up) {
			w.fail("%s comes up, and is drained", d.Backend)
		}
	}
	w.pausedKept(prev, next)
	for i := range next.Backends {
		b := &next.Backends[i]
		old := prev.backend(b.ID)
		if old == nil {
			continue
		}
		if drained := next.drain(b.ID) != nil; b.State == routing.Up && drained || b.Drained && !drained {
			w.fail("%s is %v, and its drain is %v", b.ID, b.State, drained)
		}
		if old.State == b.State {
			continue
		}
		last, ok := w.changedAt[b.ID]
		switch {
		case old.undrained() != b.undrained():
			if ok && w.now-last < simDamp*99/100 {
				w.fail("%s changed its state %v after the last change", b.ID, w.now-last)
			}
		case (prev.drain(b.ID) == nil) == (next.drain(b.ID) == nil):
			w.fail("%s changed its state, and no operator has drained it, or ended its drain", b.ID)
		}
		w.changedAt[b.ID] = w.now
		if b.Reason == "most proxies can't reach it" && w.lowLive+10*time.Second < w.now {
			w.fail("%s is down, since one proxy can't reach it", b.ID)
		}
	}
}

// undraining reports whether a proxy still has to write the end of a drain: a request from before another
// drain was made may end that drain.
func (w *world) undraining(id string) bool {
	return slices.ContainsFunc(w.nodes, func(n *node) bool {
		wish := n.m.writer.drains[id]
		return n.up && wish != nil && wish.drain == nil
	})
}

// settled checks what has to be so a while after the last fault and the last login: each proxy counts, has
// acked the fleet that was written last, and has no stay.
func (w *world) settled() {
	for _, n := range w.nodes {
		switch {
		case !n.up || n.stopped || n.m.phase != inside || n.m.isolated:
			w.fail("%s %w: it doesn't count", n.id(), errNotSettled)
		case n.m.own.Acked != w.fleet.Epoch:
			w.fail("%s %w: fleet %d is acked, and fleet %d written", n.id(), errNotSettled, n.m.own.Acked, w.fleet.Epoch)
		case len(n.m.own.Buckets)+len(n.m.own.Users) > 0:
			w.fail("%s %w: stays %v, %v", n.id(), errNotSettled, n.m.own.Buckets, n.m.own.Users)
		}
	}
}

// last is the end of a run: with all faults healed, all has settled, and each claim is granted.
func (w *world) last() {
	if !w.wrecks { // the values that are mended last may just have been read
		w.settled()
	}
	for _, n := range w.nodes {
		for _, user := range w.users {
			n.insist(user, w.now+15*time.Second)
		}
	}
}

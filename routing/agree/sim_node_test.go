package agree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// node is a proxy in the world: the Member, a model of the product's code around it, and a clock of its own.
type node struct {
	w        *world
	number   int
	life     int // counts the processes
	m        *Member
	up       bool
	stopped  bool          // by a signal: it does nothing until it is continued
	deferred []func()      // events that have come meanwhile
	cut      time.Duration // it can't reach Consul until then
	slow     time.Duration // its writes reach Consul so much later
	readOnly bool          // Consul refuses its writes: its token lacks the right
	skew     time.Duration
	rate     float64 // of its clock, besides 1
	decoder  Decoder // where values may be wrecked: each process has seen others
	conns    map[string][]*conn
	watching bool
	seen     uint64 // index of the last reading
}

var errLost = errors.New("no answer")

func newNode(w *world, number int) *node { return &node{w: w, number: number} }

func (n *node) id() string { return fmt.Sprintf("p%d.%d", n.number, n.life) }

func (n *node) clock() time.Time {
	return epoch0.Add(n.w.now + n.skew + time.Duration(n.rate*float64(n.w.now)))
}

// idle is the time of an event that isn't a client's. Without the timer only a client's next command or login
// has the Member notice that its deadline is over.
func (n *node) idle() time.Time {
	now := n.clock()
	if end := n.m.Deadline(); n.w.driver&driverTimer != 0 && n.m.phase == inside && !n.m.isolated && now.After(end) {
		return end
	}
	return now
}

// start is a new process.
func (n *node) start() {
	w := n.w
	if w.now < w.noStart {
		w.after(w.noStart-w.now, n.start)
		return
	}
	n.life++
	n.up, n.stopped, n.deferred, n.watching, n.seen = true, false, nil, false, 0
	if n.skew = w.between(0, time.Second) - 500*time.Millisecond; w.oneTime {
		n.skew = 0
	}
	if w.rates {
		n.rate = w.rng.Float64()*0.01 - 0.005
	}
	n.conns, n.decoder = make(map[string][]*conn), Decoder{}
	m, err := New(Options{
		ID: n.id(), Storage: w.storage, Users: "as they are", TTL: simTTL, AgreeWithin: simWithin, CloseWithin: 500 * time.Millisecond,
		Isolated: w.mode, Buckets: 4,
		Policy: Policy{PanicThreshold: 0.7, PanicWindow: 3 * time.Second, FailoverAfter: 3 * time.Second, FlapDamp: simDamp, MoveRate: 5, RebalanceRate: w.slow},
	}, n.clock())
	if err != nil {
		w.fail("%v", err)
		return
	}
	m.without = w.without
	n.m = m
	n.discover()
	n.each(250*time.Millisecond, func() { n.m.Tick(n.idle()) })
	n.wake()
}

// later calls a function in this process, unless the process has ended.
func (n *node) later(d time.Duration, do func()) {
	life := n.life
	n.w.after(d, func() { n.in(life, do) })
}

func (n *node) in(life int, do func()) {
	switch {
	case life != n.life || !n.up:
	case n.stopped:
		n.deferred = append(n.deferred, func() { n.in(life, do) })
	default:
		do()
		n.flush()
	}
}

func (n *node) each(d time.Duration, do func()) {
	n.later(d, func() { do(); n.each(d, do) })
}

// flush makes the Member's requests and acts on its effects.
func (n *node) flush() {
	for n.w.err == nil {
		ops, effects := n.m.Take()
		if len(ops) == 0 && len(effects) == 0 {
			return
		}
		slices.SortStableFunc(effects, func(a, b Effect) int { return strings.Compare(a.User, b.User) })
		for _, e := range effects {
			n.do(e)
		}
		for _, op := range ops {
			n.request(op)
		}
	}
}

func (n *node) do(e Effect) {
	w := n.w
	w.trace("%s: effect %d %s %s %s %v", n.id(), e.Kind, e.User, e.Backend, e.Text, e.Err)
	switch e.Kind {
	case Isolated:
		if strings.Contains(e.Text, "restored") && !w.wrecks && w.without&^ruleJoin == 0 {
			w.fail("%s takes Consul's state for a restored one", n.id())
		}
	case LetGo:
		if !e.Abort && (w.chance(0.3) || w.busy[e.User]) {
			return // it can't be parked now
		}
		for _, c := range n.conns[e.User] {
			if w.endless[c.backend] && !e.Abort {
				continue
			}
			n.end(e.User, c, w.between(0, 200*time.Millisecond))
		}
		w.moved++
	case End:
		for _, c := range n.conns[e.User] {
			n.end(e.User, c, w.between(0, 100*time.Millisecond))
		}
		w.ended++
	case CloseAll:
		for _, user := range w.users {
			for _, c := range n.conns[user] {
				n.end(user, c, w.between(0, 450*time.Millisecond))
			}
		}
	case Back, Joined:
		w.checkAll()
	}
}

// request sends an op over a network that loses and delays.
func (n *node) request(op Op) {
	w := n.w
	w.trace("%s: op %d kind %d %s", n.id(), op.ID, op.Kind, ops(op.Txn))
	sent := n.clock()
	answered := false
	answer := func(r Result) {
		r.Sent = sent
		if !answered {
			answered = true
			n.reads(r.Reading, func() { n.m.Done(op.ID, r, n.idle()) })
		}
	}
	n.later(OpTimeout, func() { answer(Result{Err: errLost}) })
	there, back := w.between(0, 20*time.Millisecond), w.between(0, 20*time.Millisecond)
	if op.Kind == Write {
		there += n.slow
	}
	lost, mute := false, false
	if !w.quiet {
		if w.chance(0.05) {
			there = w.between(0, 6*time.Second) // after its deadline, perhaps
		}
		if w.chance(0.05) {
			back = w.between(0, 3*time.Second)
		}
		lost, mute = w.chance(0.03), w.chance(0.03)
	}
	cut := n.cut > w.now
	w.after(there, func() {
		if lost || cut || w.outage > w.now {
			return
		}
		r := Result{Err: errLost}
		if !n.readOnly || op.Kind != Write {
			r = w.consul.doBy(&n.decoder, op)
		}
		w.trace("consul: op %d of %s: refused %v", op.ID, n.id(), r.Refused)
		if !mute && n.cut <= w.now {
			n.later(back, func() { answer(r) })
		}
	})
}

func ops(txn []TxnOp) string {
	var text strings.Builder
	for _, op := range txn {
		fmt.Fprintf(&text, "[%d %s %d %s]", op.Verb, op.Key, op.Index, op.Value)
	}
	return text.String()
}

func (c *fakeConsul) do(op Op) Result { return c.doBy(&c.decoder, op) }

func (c *fakeConsul) doBy(d *Decoder, op Op) Result {
	switch op.Kind {
	case CreateSession:
		return Result{Session: c.create(op.TTL)}
	case RenewSession:
		return Result{Refused: !c.renew(op.Session)}
	case DestroySession:
		c.destroy(op.Session)
		return Result{}
	case Write:
		if !c.txn(op.Txn) {
			return Result{Refused: true}
		}
		return Result{Index: c.index}
	case Read:
		return Result{Reading: c.readBy(d, true, 0)}
	}
	return Result{Err: errLost}
}

// wake makes the watch answer if there is something new, at most five times a second.
func (n *node) wake() {
	w := n.w
	if n.watching || !n.up {
		return
	}
	n.watching = true
	n.later(w.between(200*time.Millisecond, 250*time.Millisecond), func() {
		n.watching = false
		if n.cut > w.now || w.outage > w.now {
			n.wake()
			return
		}
		lag := time.Duration(0)
		if w.chance(0.2) {
			lag = w.between(0, time.Second)
		}
		back := w.consul.index < n.seen // Consul's state was restored: asked again, consistently
		if back {
			n.seen, lag = 0, 0
		}
		r := w.consul.readBy(&n.decoder, back, lag)
		delay := w.between(0, 20*time.Millisecond)
		if w.chance(0.1) {
			delay = w.between(0, time.Second)
		}
		if r.Index > n.seen {
			n.later(delay, func() {
				n.seen = max(n.seen, r.Index)
				n.reads(r, func() { n.m.Read(r, n.idle()) })
				if n.seen < w.consul.index {
					n.wake()
				}
			})
		}
		if r.Index < w.consul.index {
			n.wake()
		}
	})
}

// reads gives the Member a reading. Without the rule about good readings claims go by it before the Member switches.
func (n *node) reads(r *Reading, take func()) {
	if r == nil || n.w.driver&driverGood == 0 || n.m.phase != inside || n.m.isolated {
		take()
		return
	}
	n.m.view = r
	n.m.changed()
	n.later(250*time.Millisecond, take)
}

// attempt is a client's login: it waits for its claim until the deadline.
func (n *node) attempt(user string, deadline time.Duration) {
	n.later(0, func() {
		a := n.m.Claim(user, n.w.homes[user], n.clock())
		n.w.trace("%s: claim %s: %v %s %s", n.id(), user, a.Verdict, a.Backend, a.Why)
		switch {
		case a.Verdict == Go:
			n.w.served++
			n.connect(user, a.Backend)
		case a.Verdict == Refuse || n.w.now > deadline:
			n.w.refused++
		default:
			n.later(n.w.between(20*time.Millisecond, 100*time.Millisecond), func() { n.attempt(user, deadline) })
		}
	})
}

// insist is an attempt of a client that has to be served.
func (n *node) insist(user string, deadline time.Duration) {
	n.later(0, func() {
		a := n.m.Claim(user, n.w.homes[user], n.clock())
		switch {
		case a.Verdict == Go:
			n.connect(user, a.Backend)
		case a.Verdict == Refuse || n.w.now > deadline:
			n.w.fail("%s at %s %w: %s", user, n.id(), errNotServed, a.Why)
		default:
			n.later(100*time.Millisecond, func() { n.insist(user, deadline) })
		}
	})
}

func (n *node) connect(user, backend string) {
	w := n.w
	c := &conn{node: n, backend: backend}
	n.conns[user] = append(n.conns[user], c)
	w.conns[user] = append(w.conns[user], c)
	w.check(user)
	life := w.between(0, 4*time.Second)
	if w.chance(0.1) {
		life = w.between(0, 20*time.Second)
	}
	if w.driver&driverPin != 0 { // it counts only once it is there
		n.m.Release(user, n.clock())
		n.later(w.between(0, 500*time.Millisecond), func() { n.m.take(user, n.m.bucket(user), n.m.places.of(backend)) })
	}
	n.later(life, func() { n.end(user, c, w.between(0, 100*time.Millisecond)) })
}

// end closes a connection; its end is seen a while later.
func (n *node) end(user string, c *conn, d time.Duration) {
	if c.closing {
		return
	}
	c.closing = true
	early := n.w.driver&driverEnds != 0
	if early {
		n.m.Release(user, n.clock())
	}
	n.later(d, func() {
		n.forget(user, c)
		if !early {
			n.m.Release(user, n.clock())
		}
	})
}

func (n *node) forget(user string, c *conn) {
	is := func(o *conn) bool { return o == c }
	n.conns[user] = slices.DeleteFunc(n.conns[user], is)
	n.w.conns[user] = slices.DeleteFunc(n.w.conns[user], is)
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"imapproxy/routing"
	"imapproxy/routing/agree"
	"imapproxy/routing/discovery"
	"imapproxy/telemetry"
)

// Options says where the proxies agree, and what this one does when it has to.
type Options struct {
	// Consul says how Consul is reached; its Service, Tags and CacheFile aren't used.
	Consul discovery.ConsulOptions
	// Service is the name under which the proxies agree: their keys are below imapproxy/SERVICE/ in Consul's KV.
	Service string
	// Member is this proxy's part.
	Member agree.Options
	// Telemetry may be nil.
	Telemetry *telemetry.Telemetry

	// Switched is told of each fleet that this proxy goes by, in their order. The router applies it in place of discovery's answer.
	Switched func(*agree.Fleet)
	// LetGo ends the backend connections of a user, or, where the effect is CloseAll, of all users. It must not wait: the Hold of each
	// connection is released once its end is seen. What can't be ended now is asked for again.
	LetGo func(agree.Effect)
	// End ends the user's sessions that have connections at the effect's backend, with a BYE: a drain's time is over. A LetGo of the
	// user's comes before it. It must not wait. nil: nothing is ended.
	End func(agree.Effect)
}

// tick is how often the Member is told the time.
const tick = 100 * time.Millisecond

// Cluster is this proxy's part in the agreement. Its methods may be called by any number of goroutines.
type Cluster struct {
	o      Options
	tel    *telemetry.Telemetry
	consul *consul

	waiting  atomic.Int64  // claims that wait
	late     atomic.Uint64 // claims that have waited in vain
	switches atomic.Uint64

	// deadline is until when this proxy trusts what it knows, in nanoseconds since 1970 by the wall clock's monotonic reading (base).
	base     time.Time
	deadline atomic.Int64

	// Guards what follows; nothing waits under it.
	mu      sync.Mutex
	member  *agree.Member
	changed chan struct{} // closed, and replaced, when claims that wait are to be made again
	version uint64
	effects []agree.Effect // not yet acted on
	news    chan struct{}  // of size 1: there are effects
	start   func(agree.Op) // makes a request in a goroutine of its own; nil before Run and after its end
}

// New checks the options. Nothing is contacted.
func New(o Options) (*Cluster, error) {
	switch {
	case o.Service == "":
		return nil, errors.New("cluster: service is missing: the name under which the proxies agree")
	case o.Switched == nil || o.LetGo == nil:
		return nil, errors.New("cluster: Switched and LetGo are needed")
	}
	if o.Telemetry == nil {
		o.Telemetry = telemetry.Discard()
	}
	now := time.Now()
	member, err := agree.New(o.Member, now)
	if err != nil {
		return nil, err
	}
	kv, err := newConsul(o.Consul, o.Service)
	if err != nil {
		return nil, err
	}
	return &Cluster{
		o: o, tel: o.Telemetry, consul: kv, base: now, member: member,
		changed: make(chan struct{}), news: make(chan struct{}, 1),
	}, nil
}

// Run takes part until ctx ends. Leave comes before that: a proxy that only ends is one that has died, for the others.
func (c *Cluster) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	defer c.consul.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	c.mu.Lock()
	c.start = func(op agree.Op) {
		running.Go(func() {
			result := c.consul.do(ctx, c.tel.Log, op)
			c.with(func(m *agree.Member, now time.Time) { m.Done(op.ID, result, now) })
		})
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.start = nil
		c.mu.Unlock()
	}()

	running.Go(func() {
		c.consul.watch(ctx, c.tel.Log, func(r *agree.Reading) {
			c.with(func(m *agree.Member, now time.Time) { m.Read(r, now) })
		})
	})
	running.Go(func() { c.act(ctx) })
	c.keepTime(ctx)
	return nil
}

// keepTime ticks, and at the deadline exactly.
func (c *Cluster) keepTime(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		c.with(func(m *agree.Member, now time.Time) { m.Tick(now) })
		next := tick
		if left := c.untilDeadline(); left > 0 && left < next {
			next = left + time.Microsecond
		}
		timer.Reset(next)
	}
}

// act does what the Member's effects say, in their order.
func (c *Cluster) act(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.news:
		}
		c.mu.Lock()
		effects := c.effects
		c.effects = nil
		fleet := c.member.Fleet()
		c.mu.Unlock()
		for _, e := range effects {
			c.effect(e, fleet)
		}
	}
}

func (c *Cluster) effect(e agree.Effect, fleet *agree.Fleet) {
	log := c.tel.Log
	switch e.Kind {
	case agree.Switched:
		log.Info("the proxies agree on a new fleet", "epoch", fleet.Epoch, "backends", len(fleet.Backends))
		c.o.Switched(fleet)
	case agree.LetGo:
		c.o.LetGo(e)
	case agree.End:
		if c.o.End != nil {
			c.o.End(e)
		}
	case agree.CloseAll:
		log.Warn("all backend connections are closed until Consul is back", "reason", e.Text)
		c.o.LetGo(e)
	case agree.Joined:
		log.Info("this proxy has joined the others", "fleet", e.Text)
	case agree.Isolated:
		log.Error("this proxy is isolated: the others can't count on it, and it can't count on what it knows", "reason", e.Text)
	case agree.Back:
		log.Info("this proxy isn't isolated any more")
	case agree.Trouble:
		log.Error("the proxies can't agree as they should", "err", e.Err)
	}
}

// with calls the Member under the lock, and starts what it wants done.
func (c *Cluster) with(event func(m *agree.Member, now time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	event(c.member, time.Now())
	c.after()
}

// after takes the Member's requests and effects. It is called under the lock, after each event, and returns what closes
// when claims that wait are to be made again.
func (c *Cluster) after() <-chan struct{} {
	var effects []agree.Effect
	if c.start != nil { // else they wait until Run begins
		var ops []agree.Op
		ops, effects = c.member.Take()
		for _, op := range ops {
			c.start(op)
		}
	}
	for _, e := range effects {
		if e.Kind == agree.Switched {
			c.switches.Add(1)
		}
	}
	if len(effects) > 0 {
		c.effects = append(c.effects, effects...)
		select {
		case c.news <- struct{}{}:
		default:
		}
	}
	if v := c.member.Version(); v != c.version {
		c.version = v
		close(c.changed)
		c.changed = make(chan struct{})
	}
	c.deadline.Store(int64(c.member.Deadline().Sub(c.base)))
	return c.changed
}

func (c *Cluster) untilDeadline() time.Duration {
	return time.Duration(c.deadline.Load()) - time.Since(c.base)
}

// Overdue reports that this proxy's last successful renewal is too long ago for it to trust what it knows. It is compared at each command
// boundary: a proxy that was stopped must not relay on a connection that it may have lost. It takes no lock.
func (c *Cluster) Overdue() bool { return c.untilDeadline() <= 0 }

// Discover takes an answer of discovery, from which the next fleet is made.
func (c *Cluster) Discover(index uint64, consistent bool, backends []routing.Backend) {
	c.with(func(m *agree.Member, now time.Time) {
		m.Discover(agree.Discovery{Index: index, Consistent: consistent, Backends: backends}, now)
	})
}

// Unreachable says which backends this proxy can't reach by itself.
func (c *Cluster) Unreachable(backends []string) {
	c.with(func(m *agree.Member, now time.Time) { m.Unreachable(backends, now) })
}

// MoveUser asks that a user be moved to a backend, or with "" where the function says. It returns once all proxies go by it.
func (c *Cluster) MoveUser(ctx context.Context, user, backend string) error {
	return c.until(ctx, func(m *agree.Member, now time.Time) error { return m.MoveUser(user, backend, now) },
		func(m *agree.Member) bool { return m.Override(user) == backend })
}

// Drain asks that a backend be drained. It returns once this proxy goes by a fleet that says so; the others do as soon as they read it.
func (c *Cluster) Drain(ctx context.Context, r agree.DrainRequest) error {
	var since int64
	return c.until(ctx, func(m *agree.Member, now time.Time) (err error) { since, err = m.Drain(r, now); return err },
		func(m *agree.Member) bool { return m.Drained(r.Backend) == since })
}

// Undrain asks that a drain end, and returns once this proxy goes by a fleet that says so.
func (c *Cluster) Undrain(ctx context.Context, backend string) error {
	return c.until(ctx, func(m *agree.Member, now time.Time) error { return m.Undrain(backend, now) },
		func(m *agree.Member) bool { return m.Drained(backend) == 0 })
}

// Drained is when operators have drained the backend, in the fleet that this proxy goes by; 0: they haven't.
func (c *Cluster) Drained(backend string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.member.Drained(backend)
}

// Preview is where this proxy's users at a backend would go if it were drained: backend → users; "" is those who could go nowhere.
func (c *Cluster) Preview(backend string) (to map[string]int, err error) {
	c.with(func(m *agree.Member, now time.Time) { to, err = m.Preview(backend, now) })
	return to, err
}

// ErrAlive is Remove's error for a proxy that has written its key meanwhile.
var ErrAlive = errors.New("the proxy is alive: it has written to Consul just now")

// Remove takes a proxy that is known to be dead out of the fleet, and returns once its key is gone, or ctx ends.
func (c *Cluster) Remove(ctx context.Context, id string) error {
	var was, is uint64
	err := c.until(ctx, func(m *agree.Member, now time.Time) error {
		was = m.Key(id)
		return m.Remove(id, now)
	}, func(m *agree.Member) bool {
		is = m.Key(id)
		return is != was
	})
	if err == nil && is != 0 {
		return ErrAlive
	}
	return err
}

// Reconfigure gives this proxy other settings.
func (c *Cluster) Reconfigure(s agree.Settings) (err error) {
	c.with(func(m *agree.Member, now time.Time) { err = m.Reconfigure(s, now) })
	return err
}

// Reconnect has Consul reached in another way: by another agent, token or certificate. It has to be the same Consul.
func (c *Cluster) Reconnect(o discovery.ConsulOptions) { c.consul.reconnect(o) }

// Counts is for metrics.
type Counts struct {
	Waiting  int64  // claims that wait now
	Late     uint64 // claims that have waited in vain
	Switches uint64 // fleets that this proxy has gone by
}

// Counts returns the counts as of now.
func (c *Cluster) Counts() Counts {
	return Counts{Waiting: c.waiting.Load(), Late: c.late.Load(), Switches: c.switches.Load()}
}

// Leave begins a clean stop, and returns once this proxy holds nothing and the others don't count it any more; or when ctx ends.
// The holder of connections ends them meanwhile.
func (c *Cluster) Leave(ctx context.Context) error {
	return c.until(ctx, func(m *agree.Member, now time.Time) error { m.Leave(now); return nil },
		func(m *agree.Member) bool { return m.Left() })
}

// until makes a request of the Member, and waits until it is so.
func (c *Cluster) until(ctx context.Context, ask func(*agree.Member, time.Time) error, done func(*agree.Member) bool) error {
	timer := time.NewTicker(tick) // some of what is waited for changes no claim
	defer timer.Stop()
	var err error
	c.with(func(m *agree.Member, now time.Time) { err = ask(m, now) })
	for err == nil {
		c.mu.Lock()
		ok, changed := done(c.member), c.changed
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cluster: not within the time given: %w", ctx.Err())
		case <-timer.C:
		case <-changed:
		}
	}
	return err
}

// Status is what operators are shown.
func (c *Cluster) Status() agree.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.member.Status(time.Now())
	c.after()
	return s
}

// Place tells where a user is and why; home is the placement.
func (c *Cluster) Place(user, home string) agree.Place {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.member.Place(user, home, time.Now())
	c.after()
	return p
}

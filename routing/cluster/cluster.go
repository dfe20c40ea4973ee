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

// Options say how the proxies agree, and how this proxy acts on the result.
type Options struct {
	// Consul says how Consul is reached; Service, Tags and CacheFile in it aren't used.
	Consul discovery.ConsulOptions
	// Service is the name under which the proxies agree: their keys are below imapproxy/SERVICE/ in Consul.
	Service string
	// Member is this proxy's part.
	Member agree.Options
	// Telemetry may be nil.
	Telemetry *telemetry.Telemetry

	// Switched is called with each fleet that this proxy goes by, in their order. The router uses the fleet
	// in place of discovery's answer.
	Switched func(*agree.Fleet)
	// LetGo ends the backend connections of a user or, if the effect is CloseAll, of all users. It must not
	// wait: the Hold of each connection is released once the connection's end has been seen. LetGo is called
	// again for connections that couldn't be ended.
	LetGo func(agree.Effect)
	// End ends, with a BYE, the user's sessions that have connections at the effect's backend, because the
	// time of a drain is over. LetGo is called for the user before it. It must not wait. nil: no session is
	// ended.
	End func(agree.Effect)
}

// tick is the interval of the Member's ticks.
const tick = 100 * time.Millisecond

const (
	wakeEvery = 20 * time.Millisecond
	wakeFew   = 64 // so many claims that wait are made again at each change
)

// Cluster is this proxy's part in the agreement. Its methods may be called by several goroutines at once.
type Cluster struct {
	o      Options
	tel    *telemetry.Telemetry
	consul *consul

	waiting  atomic.Int64  // claims that wait
	late     atomic.Uint64 // claims that reached their limit without an answer
	switches atomic.Uint64

	// deadline is until when this proxy trusts what it knows, in nanoseconds after base; the monotonic clock
	// counts.
	base     time.Time
	deadline atomic.Int64

	// Guards what follows; nothing waits under it.
	mu      sync.Mutex
	member  *agree.Member
	changed chan struct{} // closed, and replaced, when claims that wait are to be made again
	version uint64
	woken   time.Time      // when changed was closed last
	waking  bool           // changed will be closed later
	effects []agree.Effect // not yet acted on
	news    chan struct{}  // of size 1: there are effects
	start   func(agree.Op) // makes a request in a goroutine of its own; nil before Run and after its end
}

// New checks the options. It contacts nothing.
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
	kv, err := newConsul(o.Consul, o.Service, member.TTL())
	if err != nil {
		return nil, err
	}
	return &Cluster{
		o: o, tel: o.Telemetry, consul: kv, base: now, member: member,
		changed: make(chan struct{}), news: make(chan struct{}, 1),
	}, nil
}

// Run takes part in the agreement until ctx ends. Call Leave first: other proxies take a proxy that only
// ends Run for one that has died.
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

// keepTime calls Tick at each tick, and exactly at the deadline.
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

// act acts on the Member's effects, in their order.
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
		log.Error("this proxy is isolated: the others may move its users, and it can't rely on what it knows", "reason", e.Text)
	case agree.Back:
		log.Info("this proxy isn't isolated any more")
	case agree.Trouble:
		if p, ok := errors.AsType[agree.Problem](e.Err); ok {
			key := c.consul.prefix + p.Key
			log.Error("a value in consul isn't the proxies', and is ignored", "key", key, "error", p.Err, "help", p.Help(key))
			return
		}
		log.Error("the agreement of the proxies has a problem", "err", e.Err)
	}
}

// with calls event under the lock, and starts the requests that it leaves.
func (c *Cluster) with(event func(m *agree.Member, now time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	event(c.member, time.Now())
	c.after()
}

// after takes the Member's requests and effects. It is called under the lock, after each event. It returns
// the channel that closes when claims that wait are to be made again.
func (c *Cluster) after() <-chan struct{} {
	var effects []agree.Effect
	if c.start != nil { // otherwise they wait until Run begins
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
		c.wake()
	}
	c.deadline.Store(int64(c.member.Deadline().Sub(c.base)))
	return c.changed
}

// wake makes all claims that wait be made again. Each takes the lock. While many users are moved, each end of a connection is a
// change, and logins would wait for the lock behind thousands of claims that then wait again. So if more than wakeFew wait, they are
// woken once in wakeEvery. wake is called under the lock.
func (c *Cluster) wake() {
	now := time.Now()
	if left := wakeEvery - now.Sub(c.woken); c.waiting.Load() > wakeFew && left > 0 {
		if !c.waking {
			c.waking = true
			time.AfterFunc(left, func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.waking = false
				c.wakeNow(time.Now())
			})
		}
		return
	}
	c.wakeNow(now)
}

func (c *Cluster) wakeNow(now time.Time) {
	c.woken = now
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Cluster) untilDeadline() time.Duration {
	return time.Duration(c.deadline.Load()) - time.Since(c.base)
}

// Overdue reports whether the last successful renewal is too long ago for this proxy to trust what it knows.
// The caller asks at each command boundary: a proxy that was stopped must not relay on a connection that it
// may have lost. Overdue takes no lock.
func (c *Cluster) Overdue() bool { return c.untilDeadline() <= 0 }

// Discover takes an answer of discovery. The next fleet is made from it.
func (c *Cluster) Discover(index uint64, consistent bool, backends []routing.Backend) {
	c.with(func(m *agree.Member, now time.Time) {
		m.Discover(agree.Discovery{Index: index, Consistent: consistent, Backends: backends}, now)
	})
}

// Unreachable says which backends this proxy can't reach.
func (c *Cluster) Unreachable(backends []string) {
	c.with(func(m *agree.Member, now time.Time) { m.Unreachable(backends, now) })
}

// MoveUser asks for a user to be moved to a backend or, with "", to where the function says. It returns once
// this proxy goes by a fleet with that override; the other proxies do as soon as they read it.
func (c *Cluster) MoveUser(ctx context.Context, user, backend string) error {
	return c.until(ctx, func(m *agree.Member, now time.Time) error { return m.MoveUser(user, backend, now) },
		func(m *agree.Member) bool { return m.Override(user) == backend })
}

// Drain asks for a backend to be drained. It returns once this proxy goes by a fleet with the drain; the
// other proxies do as soon as they read it.
func (c *Cluster) Drain(ctx context.Context, r agree.DrainRequest) error {
	var since int64
	return c.until(ctx, func(m *agree.Member, now time.Time) (err error) { since, err = m.Drain(r, now); return err },
		func(m *agree.Member) bool { return m.Drained(r.Backend) == since })
}

// Undrain asks for a drain to end. It returns once this proxy goes by a fleet without it.
func (c *Cluster) Undrain(ctx context.Context, backend string) error {
	return c.until(ctx, func(m *agree.Member, now time.Time) error { return m.Undrain(backend, now) },
		func(m *agree.Member) bool { return m.Drained(backend) == 0 })
}

// Pause asks for a backend to be paused. It returns once this proxy goes by a fleet with the pause; the other
// proxies do as soon as they read it.
func (c *Cluster) Pause(ctx context.Context, r agree.PauseRequest) (p agree.Pause, err error) {
	err = c.until(ctx, func(m *agree.Member, now time.Time) (err error) { p, err = m.Pause(r, now); return err },
		func(m *agree.Member) bool { return m.Paused(r.Backend) == p })
	return p, err
}

// Resume asks for a backend's pause to end. It returns once this proxy goes by a fleet in which it has ended.
func (c *Cluster) Resume(ctx context.Context, backend string) (p agree.Pause, err error) {
	err = c.until(ctx, func(m *agree.Member, now time.Time) (err error) { p, err = m.Resume(backend, now); return err },
		func(m *agree.Member) bool { return m.Paused(backend) == p })
	return p, err
}

// Drained returns since when operators have drained the backend, in the fleet that this proxy goes by, in
// milliseconds since 1970; 0: it isn't drained.
func (c *Cluster) Drained(backend string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.member.Drained(backend)
}

// Epoch returns the epoch of the fleet that this proxy goes by, 0 before it has joined. Options.Switched is called
// with that fleet a moment later.
func (c *Cluster) Epoch() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.member.Fleet(); f != nil {
		return f.Epoch
	}
	return 0
}

// PreviewEnd returns where this proxy's users are who would go to the backend if its drain ended: backend →
// number of users.
func (c *Cluster) PreviewEnd(backend string) (from map[string]int, err error) {
	c.with(func(m *agree.Member, now time.Time) { from, err = m.PreviewEnd(backend, now) })
	return from, err
}

// Preview returns where this proxy's users at a backend would go if it were drained: backend → number of
// users; "" is for users who would stay, since no other backend is up.
func (c *Cluster) Preview(backend string) (to map[string]int, err error) {
	c.with(func(m *agree.Member, now time.Time) { to, err = m.Preview(backend, now) })
	return to, err
}

// ErrAlive is Remove's error if the proxy has written its key meanwhile.
var ErrAlive = errors.New("the proxy is alive: it has written to Consul just now")

// Remove takes a proxy that is known to be dead out of the fleet. It returns once the proxy's key is gone,
// or when ctx ends.
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

// Reconfigure changes this proxy's settings.
func (c *Cluster) Reconfigure(s agree.Settings) (err error) {
	c.with(func(m *agree.Member, now time.Time) { err = m.Reconfigure(s, now) })
	return err
}

// Reconnect changes how Consul is reached: by another agent, token or certificate. It has to be the same
// Consul.
func (c *Cluster) Reconnect(o discovery.ConsulOptions) { c.consul.reconnect(o) }

// Counts are the values for metrics.
type Counts struct {
	Waiting  int64  // claims that wait now
	Late     uint64 // claims that reached their limit without an answer
	Switches uint64 // fleets that this proxy has gone by
}

// Counts returns the counts as of now.
func (c *Cluster) Counts() Counts {
	return Counts{Waiting: c.waiting.Load(), Late: c.late.Load(), Switches: c.switches.Load()}
}

// Leave begins a clean stop. It returns once this proxy has no connections and the other proxies don't count
// it any more, or when ctx ends. The caller ends the connections meanwhile.
func (c *Cluster) Leave(ctx context.Context) error {
	return c.until(ctx, func(m *agree.Member, now time.Time) error { m.Leave(now); return nil },
		func(m *agree.Member) bool { return m.Left() })
}

// until makes a request, and waits until done reports that it is done.
func (c *Cluster) until(ctx context.Context, ask func(*agree.Member, time.Time) error, done func(*agree.Member) bool) error {
	timer := time.NewTicker(tick) // done may become true without a change that closes `changed`
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

// Place returns where a user is and why; home is the user's placement.
func (c *Cluster) Place(user, home string) agree.Place {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.member.Place(user, home, time.Now())
	c.after()
	return p
}

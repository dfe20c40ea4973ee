package app

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"imapproxy/internal/task"
	"imapproxy/internal/wiring"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/agree"
	agreed "imapproxy/routing/cluster"
	"imapproxy/routing/discovery"
)

const (
	// suspectsEvery is how often the other proxies are told which backends this one can't reach.
	suspectsEvery = time.Second
	// cutAfter is after when connections aren't waited for that were to be closed at once: all of it takes less than agree's CloseWithin.
	cutAfter = time.Second
	// leaveWithin bounds a clean end. A proxy that doesn't manage has died, for the others.
	leaveWithin = 5 * time.Second
)

// agreement is this proxy's part in what all proxies agree on (docs/cluster.md), as the other parts of an App need it: it is the router's
// Agreement, and its claims are the dialer's Claims. It is there where the settings have discovery "consul" and a block cluster.
type agreement struct {
	part    *agreed.Cluster // made by open, before anything is served
	id      string
	storage routing.Storage
	within  atomic.Int64 // agree_within
	holds   atomic.Bool  // isolated = "hold"

	// take gives a fleet to the router, and what else depends on it; watch sets it.
	take atomic.Pointer[func(routing.Snapshot)]

	// Held while a fleet is given to the router, so that they come in their order.
	giving sync.Mutex
	fleet  *agree.Fleet // the last one

	// Guards what follows; nothing waits under it.
	mu      sync.Mutex
	epoch   uint64                           // that the router goes by
	applied chan struct{}                    // closed, and replaced, at each fleet
	ends    map[string]map[*connClaim]func() // by user: connections whose end is waited for, each with what gives up

	running, telling *task.Task
}

func newAgreement(id string) *agreement {
	return &agreement{id: id, applied: make(chan struct{}), ends: make(map[string]map[*connClaim]func())}
}

// openAgreement makes this proxy's part. It contacts nothing.
func (a *App) openAgreement() error {
	g := a.agreement
	if g == nil {
		return nil
	}
	o := wiring.Agreement(a.cfg, a.tel)
	o.Member.ID = g.id
	o.Member.About = agree.About{Version: a.opts.Version, Admin: wiring.AdminAddress(a.cfg, a.AdminAddr()), Host: a.cfg.Hostname, Process: os.Getpid(), Config: *a.digest.Load()}
	o.Switched, o.LetGo, o.End = g.switched, a.letGo, a.endSessions
	g.storage = o.Member.Storage
	g.set(o.Member.AgreeWithin, o.Member.Isolated)
	var err error
	if g.part, err = agreed.New(o); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	a.tel.SetClusterGauges(g.gauges)
	return nil
}

// set notes what of the settings claims go by.
func (g *agreement) set(within time.Duration, isolated agree.Mode) {
	g.within.Store(int64(within))
	g.holds.Store(isolated == agree.Hold)
}

// begin takes part.
func (g *agreement) begin(router *routing.Router) {
	if g == nil {
		return
	}
	g.running = task.Start(g.part.Run)
	g.telling = task.Start(func(ctx context.Context) error {
		tick := time.NewTicker(suspectsEvery)
		defer tick.Stop()
		var said []string
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			suspects := router.Suspects()
			slices.Sort(suspects)
			if !slices.Equal(suspects, said) {
				said = suspects
				g.part.Unreachable(suspects)
			}
		}
	})
}

// end leaves the others: all connections to backends have been closed, or are being. Where that isn't seen in time, or Consul is away, the others
// wait for this proxy as for one that has died.
func (a *App) endAgreement() error {
	g := a.agreement
	if g == nil || g.running == nil {
		return nil
	}
	err := g.telling.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	if late := g.part.Leave(ctx); late != nil {
		a.tel.Log.Warn("the other proxies couldn't be told that this one has ended: they don't move its users until its key in Consul is removed", "id", g.id, "error", late)
	}
	if stopped := g.running.Stop(); err == nil {
		err = stopped
	}
	return err
}

// discovered hands on an answer of discovery, from which the proxies make their next fleet. What was kept on disk says nothing to the others.
func (g *agreement) discovered(s routing.Snapshot) {
	if !s.Saved.IsZero() {
		return
	}
	g.part.Discover(s.Index, s.Consistent, s.Backends)
	g.giving.Lock()
	defer g.giving.Unlock()
	if g.fleet != nil && len(s.Backends) > 0 {
		g.give() // it is still what holds: the router knows how old its set is
	}
}

// switched has the router go by a fleet.
func (g *agreement) switched(f *agree.Fleet) {
	g.giving.Lock()
	defer g.giving.Unlock()
	g.fleet = f
	g.give()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.epoch = f.Epoch
	close(g.applied)
	g.applied = make(chan struct{})
}

// give hands the fleet to the router. giving is held.
func (g *agreement) give() {
	s := routing.Snapshot{Source: agreedSource, Index: g.fleet.Catalogue}
	for i := range g.fleet.Backends {
		s.Backends = append(s.Backends, g.fleet.Backends[i].Routing())
	}
	(*g.take.Load())(s)
}

// agreedSource is the name of fleets in logs and metrics.
const agreedSource = "proxies"

// permitted is take with a check of each backend's TLS: the fleet may be made by a proxy with other settings.
func permitted(p discovery.TLSPolicy, take func(routing.Snapshot)) *func(routing.Snapshot) {
	f := func(s routing.Snapshot) {
		for i := range s.Backends {
			p.Permit(&s.Backends[i])
		}
		take(s)
	}
	return &f
}

// Claim implements routing.Agreement.
func (g *agreement) Claim(ctx context.Context, user, home string) (backend string, release func(), err error) {
	within := time.Duration(g.within.Load())
	hold, err := g.part.Claim(ctx, within, user, home)
	if err != nil {
		return "", nil, err
	}
	if err := g.applies(ctx, within, hold.Epoch); err != nil {
		hold.Release()
		return "", nil, err
	}
	return hold.Backend, hold.Release, nil
}

// Destination implements routing.Destined.
func (g *agreement) Destination(user string) string { return g.part.Place(user, "").Choice }

// applies waits until the router goes by a fleet, which takes a moment from when claims do.
func (g *agreement) applies(ctx context.Context, within time.Duration, epoch uint64) error {
	var timer *time.Timer
	for {
		g.mu.Lock()
		ok, applied := g.epoch >= epoch, g.applied
		g.mu.Unlock()
		if ok {
			return nil
		}
		if timer == nil {
			timer = time.NewTimer(within)
			defer timer.Stop()
		}
		select {
		case <-applied:
		case <-timer.C:
			return agreed.ErrWait
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Overdue reports that this proxy may have lost its connections: it holds where it is isolated, and hasn't heard from Consul for so long that it is.
func (g *agreement) Overdue() bool { return g.holds.Load() && g.part.Overdue() }

// connClaims is upstream's Claims.
type connClaims struct{ *agreement }

// Claim implements upstream.Claims. It doesn't wait: the caller may have a place that others wait for. Where the user is being moved, the caller
// is told that they are elsewhere, and asks the router anew.
func (g connClaims) Claim(_ context.Context, user, backend string) (upstream.Claim, error) {
	hold, elsewhere, err := g.part.ClaimAt(user, backend)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", routing.ErrNotAgreed, err)
	case hold == nil:
		return nil, &upstream.Elsewhere{User: user, Backend: elsewhere}
	}
	return &connClaim{of: g.agreement, hold: hold, user: user}, nil
}

// connClaim is a connection's right to be.
type connClaim struct {
	of   *agreement
	hold *agreed.Hold
	user string
}

// Release implements upstream.Claim.
func (c *connClaim) Release() {
	g := c.of
	g.mu.Lock()
	if all := g.ends[c.user]; all != nil {
		if delete(all, c); len(all) == 0 {
			delete(g.ends, c.user)
		}
	}
	g.mu.Unlock()
	c.hold.Release()
}

// Ends implements upstream.Claim. There is one entry for each connection that was closed and whose end hasn't been seen.
func (c *connClaim) Ends(cut func()) {
	g := c.of
	c.hold.Ending()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ends[c.user] == nil {
		g.ends[c.user] = make(map[*connClaim]func())
	}
	g.ends[c.user][c] = cut
}

// cut gives up waiting for the ends of a user's connections, or with "" of all.
func (g *agreement) cut(user string) {
	var cuts []func()
	g.mu.Lock()
	for u, all := range g.ends {
		if user != "" && u != user {
			continue
		}
		for _, cut := range all {
			cuts = append(cuts, cut)
		}
	}
	g.mu.Unlock()
	for _, cut := range cuts {
		cut()
	}
}

// letGo ends connections of a user, or of all; it doesn't wait. Each claim ends once the connection's end is seen.
func (a *App) letGo(e agree.Effect) {
	all := e.Kind == agree.CloseAll
	if all {
		e.User, e.Abort = "", true
	}
	a.server.LetGo(e.User, e.Abort)
	a.parking.hub.LetGo(e.User)
	a.parking.pool.LetGo(e.User)
	if e.Abort {
		a.agreement.cut(e.User)
	}
	if all { // a user's are asked for again, but not these
		time.AfterFunc(cutAfter, func() { a.agreement.cut("") })
	}
}

package app

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"imapproxy/internal/task"
	"imapproxy/internal/wiring"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/agree"
	agreed "imapproxy/routing/cluster"
	"imapproxy/telemetry"
)

const (
	// suspectsEvery is how often the other proxies are told which backends this one can't reach.
	suspectsEvery = time.Second
	// cutAfter is how long the proxy waits for the ends of connections that it has closed at once. Closing
	// takes less than agree's CloseWithin in all.
	cutAfter = time.Second
	// leaveWithin bounds a clean stop. For the other proxies, a proxy that takes longer has died.
	leaveWithin = 5 * time.Second
)

func newAgreement(id string) *agreement {
	return &agreement{id: id, applied: make(chan struct{})}
}

// openAgreement creates this proxy's part. It contacts nothing.
func (a *App) openAgreement() error {
	g := a.agreement
	if g == nil {
		return nil
	}
	o := wiring.Agreement(a.cfg, a.tel)
	o.Member.ID = g.id
	o.Member.About = agree.About{Version: a.opts.Version, Admin: wiring.AdminAddress(a.cfg, a.AdminAddr()), Host: a.cfg.Hostname, Process: os.Getpid(), Config: a.current.Load().digest}
	o.Switched = func(f *agree.Fleet) { a.agreedPauses(f); g.switched(f); a.server.Stay() }
	o.LetGo, o.End = a.letGo, a.endSessions
	g.storage = o.Member.Storage
	g.set(o.Member.AgreeWithin, o.Member.Isolated)
	var err error
	if g.part, err = agreed.New(o); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	a.tel.SetClusterGauges(func() telemetry.ClusterStats {
		s := g.gauges()
		for _, d := range (mover{a}).Drains() {
			l := telemetry.ClusterLeaving{Backend: d.Backend, Users: int64(d.Users), Held: d.Held}
			if d.Ends != nil {
				l.Turns = int64(max(0, time.Until(*d.Ends).Seconds()))
			}
			s.Leaving = append(s.Leaving, l)
		}
		return s
	})
	return nil
}

// set stores the settings that claims depend on.
func (g *agreement) set(within time.Duration, isolated agree.Mode) {
	g.within.Store(int64(outlasts(within)))
	g.holds.Store(isolated == agree.Hold)
}

// outlasts returns how long a claim waits. A turn of moves lasts agreeWithin, and claims wait for its end: users who
// couldn't leave in it go on at their old backend. A claim made at the turn's beginning mustn't give up just before.
func outlasts(agreeWithin time.Duration) time.Duration { return agreeWithin + agreeWithin/4 }

// begin starts this proxy's part.
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

// endAgreement makes this proxy leave. All connections to backends have been closed, or are being closed. If
// their ends aren't seen in time, or Consul is away, the other proxies wait for this proxy as for one that
// has died.
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

// discovered passes on an answer of discovery. The proxies make their next fleet from it. An answer that was
// loaded from disk isn't passed on.
func (g *agreement) discovered(s routing.Snapshot) {
	if !s.Saved.IsZero() {
		return
	}
	g.part.Discover(s.Index, s.Consistent, s.Backends)
	g.giving.Lock()
	defer g.giving.Unlock()
	if g.fleet != nil && len(s.Backends) > 0 {
		g.give() // the fleet still holds; with it the router learns that its set of backends isn't old
	}
}

// switched makes the router use a fleet.
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

// give passes the fleet to the router. The caller holds giving.
func (g *agreement) give() {
	s := routing.Snapshot{Source: agreedSource, Index: g.fleet.Catalogue}
	for i := range g.fleet.Backends {
		s.Backends = append(s.Backends, g.fleet.Backends[i].Routing())
	}
	(*g.take.Load())(s)
}

// agreedSource is the name of the fleets' source in logs and metrics.
const agreedSource = "proxies"

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

// Overdue reports whether this proxy may have lost its connections: isolated is "hold", and the last
// successful renewal is so long ago that the proxy is isolated.
func (g *agreement) Overdue() bool { return g.holds.Load() && g.part.Overdue() }

// connClaims implements upstream.Claims.
type connClaims struct{ *agreement }

// Claim implements upstream.Claims. It doesn't wait, since the caller may have a place that others wait for.
// If the user is being moved, the error says that the user is elsewhere, and the caller asks the router
// again.
func (g connClaims) Claim(_ context.Context, user, backend string, use upstream.Use) (upstream.Claim, error) {
	hold, elsewhere, err := g.part.ClaimAt(user, backend, use == upstream.UseWatch)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", routing.ErrNotAgreed, err)
	case hold == nil:
		return nil, &upstream.Elsewhere{User: user, Backend: elsewhere}
	}
	return &connClaim{of: g.agreement, hold: hold, user: user}, nil
}

// Release implements upstream.Claim.
func (c *connClaim) Release() {
	c.of.ends.seen(c.user, c)
	c.hold.Release()
}

// Ends implements upstream.Claim.
func (c *connClaim) Ends(cut func()) {
	c.hold.Ending()
	c.of.ends.await(c.user, c, cut)
}

// letGo ends the connections of a user, or of all users; it doesn't wait. Each claim ends once the
// connection's end has been seen.
func (a *App) letGo(e agree.Effect) {
	all := e.Kind == agree.CloseAll
	if all {
		e.User, e.Abort = "", true
	}
	a.server.LetGo(e.User, e.Abort)
	a.parking.hub.LetGo(e.User)
	a.parking.pool.LetGo(e.User)
	if e.Abort {
		a.agreement.ends.cut(e.User)
	}
	if all { // LetGo of a user is repeated, CloseAll isn't
		time.AfterFunc(cutAfter, func() { a.agreement.ends.cut("") })
	}
}

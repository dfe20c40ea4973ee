package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/session"
)

// Periods of tasks that no event starts.
const (
	sweepEvery    = 2 * time.Second       // sessions: idle ones, ended ones that are stuck, those whose backend is void
	shortestSweep = 50 * time.Millisecond // where linger is short
	parkedSweep   = 16 * time.Second      // parked sessions: idle ones, those whose backend is void, keepalives
	refreshEvery  = 10 * time.Second      // certificate files
)

// bug reports a broken invariant. The session continues as far as possible.
func (s *Server) bug(what string) {
	if s.illegal != nil {
		s.illegal(what)
		return
	}
	s.tel.Log.Error("a fault of imapproxy itself, please report it", "what", what)
}

// newSettings returns the settings for these options.
func newSettings(o Options) *settings { return &settings{Options: o, sessions: o.sessions()} }

// New returns a server. Listen binds its addresses, Serve runs it.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	poller, err := conn.NewPoller()
	if err != nil {
		return nil, err
	}
	places, err := session.NewPlaces()
	if err != nil {
		return nil, err
	}
	s := &Server{tel: o.Telemetry, now: o.Now, reg: session.NewRegistry(), refusals: newRefusals(), started: o.Now(), rechecks: make(chan struct{}, 1), proves: make(chan struct{}, 1), accepts: newAcceptGate()}
	s.trials = newTrials(s)
	set := newSettings(o)
	s.set.Store(set)
	guard := o.Guard
	if guard == nil {
		guard = guessing.New(guessing.Options{})
	}
	s.env = &session.Env{
		Now: o.Now, Settings: func() *session.Settings { return s.set.Load().sessions },
		Telemetry: o.Telemetry, Buffers: conn.NewPool(), Poller: poller,
		Registry: s.reg, Places: places, Guard: guard, Queues: session.NewQueues(set.sessions), Capabilities: &session.Capabilities{}, Probes: s.trials,
		Draining: s.draining.Load, Overdue: o.Overdue, Recheck: s.recheckSoon, Gone: s.sessions.Done, Bug: s.bug,
	}
	if err := s.UnknownTLS(); err != nil {
		o.Telemetry.Log.Warn("idle clients under TLS take more memory than they need: the program was built with another Go release than it knows", "error", err)
	}
	s.sourcesSeen.Store(auth.Version(o.Sources))
	o.Dialer.Room().Keeps(s.crowded)
	for _, lo := range o.Listeners {
		l, err := newListener(s, lo)
		if err != nil {
			return nil, fmt.Errorf("listener %q: %w", lo.Name, err)
		}
		s.listeners = append(s.listeners, l)
	}
	s.tel.SetSessionGauge(s.reg.Attachments)
	return s, nil
}

// UnknownTLS says why the buffers of idle clients inside crypto/tls are left alone (conn.Pool.Unfit); nil: they aren't.
func (s *Server) UnknownTLS() error { return s.env.Buffers.Unfit() }

// Listen binds every listener's address, or none.
func (s *Server) Listen(ctx context.Context) error {
	for _, l := range s.listeners {
		if err := l.bind(ctx); err != nil {
			s.closeListeners()
			return err
		}
	}
	return nil
}

// Addrs returns the bound addresses by listener name.
func (s *Server) Addrs() map[string]string {
	out := map[string]string{}
	for _, l := range s.listeners {
		if l.tcp != nil {
			out[l.opts.Name] = l.tcp.Addr().String()
		}
	}
	return out
}

// Reload applies new options, also to existing sessions. Listeners are matched by name; their
// addresses and TLS modes, the router, the telemetry and the clock stay as they were, and so do
// listeners that aren't named any more. Certificates are read again. On error nothing has changed.
func (s *Server) Reload(o Options) error {
	old := s.set.Load().Options
	o.Router, o.Telemetry, o.Now = old.Router, old.Telemetry, old.Now
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	byName := map[string]*listenerSettings{}
	for _, lo := range o.Listeners {
		if i := slices.IndexFunc(s.listeners, func(l *listener) bool { return l.opts.Name == lo.Name }); i >= 0 && lo.TLS != s.listeners[i].opts.TLS {
			old := s.listeners[i].set.Load()
			lo.TLS, lo.Certificates = old.TLS, old.Certificates
		}
		ls, err := newListenerSettings(s, lo)
		if err != nil {
			return fmt.Errorf("listener %q: %w", lo.Name, err)
		}
		byName[lo.Name] = ls
	}
	s.set.Store(newSettings(o))
	o.Dialer.Room().Keeps(s.crowded)
	if !slices.Equal(o.Sources, old.Sources) {
		s.sourcesSeen.Store(auth.Version(o.Sources))
		s.recheckSoon()
	}
	s.env.Queues.Set(s.set.Load().sessions)
	s.proveSoon()
	for _, l := range s.listeners {
		if ls := byName[l.opts.Name]; ls != nil {
			certified := ls.clients != nil || l.set.Load().clients != nil
			if l.use(ls); certified {
				s.recheckSoon()
			}
		}
	}
	return nil
}

// Serve accepts and serves clients until ctx ends. Then it stops accepting, sends BYE to the sessions, spread
// over Options.Drain, and returns when all have ended.
func (s *Server) Serve(ctx context.Context) error {
	if slices.ContainsFunc(s.listeners, func(l *listener) bool { return l.tcp == nil }) {
		return errors.New("proxy: Serve before Listen")
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	waiting, over := context.WithCancel(context.WithoutCancel(ctx))
	defer over()
	var accepting, looking errgroup.Group
	for _, l := range s.listeners {
		accepting.Go(func() error { return l.accept(work) }) // ends when the listener is closed
	}
	looking.Go(func() error { s.lookAfter(work); return nil })       // ends with work
	looking.Go(func() error { s.recheckSessions(work); return nil }) // ends with work
	looking.Go(func() error { s.proveSharing(work); return nil })    // ends with work
	looking.Go(func() error { s.trials.run(work); return nil })
	looking.Go(func() error { return s.env.Poller.Run(waiting) }) // ends when the sessions have ended
	<-ctx.Done()
	s.draining.Store(true)
	s.closeListeners()
	err := accepting.Wait()
	s.drain(s.set.Load().Drain)
	stop() // cuts off clients that haven't logged in
	s.sessions.Wait()
	s.routes.close()
	if left := s.reg.Leftover(); left != "" {
		s.bug("counted after the last session's end: " + left)
	}
	over()
	return errors.Join(err, looking.Wait())
}

func (s *Server) closeListeners() {
	s.accepts.end()
	for _, l := range s.listeners {
		if l.tcp != nil {
			_ = l.tcp.Close()
		}
	}
}

// lookAfter runs the periodic tasks until ctx ends.
func (s *Server) lookAfter(ctx context.Context) {
	sweep, refresh := time.NewTicker(s.sweepPeriod()), time.NewTicker(refreshEvery)
	defer sweep.Stop()
	defer refresh.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			s.sweep(s.parkedAtATime())
			sweep.Reset(s.sweepPeriod()) // a reload may have changed it
		case <-refresh.C:
			for _, l := range s.listeners {
				if l.set.Load().refresh() {
					s.recheckSoon()
				}
			}
			s.forgetQueues()
		}
	}
}

// sweepPeriod is shorter if linger is short, since a session is parked up to one sweep late.
func (s *Server) sweepPeriod() time.Duration {
	if p := s.set.Load().Park; p.Hub != nil {
		return min(sweepEvery, max(p.Linger/8, shortestSweep))
	}
	return sweepEvery
}

// parkedAtATime returns how many shards of parked sessions one sweep visits, so that each session is visited
// in time for its keepalive.
func (s *Server) parkedAtATime() int {
	within := parkedSweep
	if every := s.set.Load().Park.KeepaliveEvery(); every > 0 {
		within = min(within, every/8)
	}
	return int(min(1+session.Shards*s.sweepPeriod()/max(within, 1), session.Shards))
}

// Sweep ends sessions whose time is over, and parks idle ones. Serve does this every two seconds, or more
// often if linger is short, and visits only some of the parked sessions each time; Sweep visits all, for
// tests.
func (s *Server) Sweep() { s.sweep(session.Shards) }

func (s *Server) sweep(n int) {
	s.sweeping.Lock() // only one sweep at a time asks a session to pause
	defer s.sweeping.Unlock()
	s.noticeSources()
	now := s.now()
	idle := s.set.Load().Limits.IdleTimeout
	wakes := s.wakes()
	if wakes > 0 {
		n = session.Shards
	}
	first := s.swept
	s.swept = (first + n) % session.Shards
	s.reg.Some(func(shard int) bool { return (shard-first+session.Shards)%session.Shards < n }, func(c *session.Session) {
		c.LookAfter(now, idle)
		if wakes > 0 && c.Signal(session.SigOff) {
			wakes--
		}
	})
	s.trials.suspect(s.env.Stalls.EndRound())
}

// wakes returns how many parked sessions have to resume now without a command of their clients: none, unless
// parking was switched off. Then it bounds their number, so that no resume waits so long that its session has
// to end.
func (s *Server) wakes() int {
	o := s.set.Load().Park
	if o.Hub != nil || s.reg.Count(session.Parked) == 0 {
		return 0
	}
	n := wakesPerPlace * o.ResumesAtATime()
	if o.ResumeRate > 0 {
		n = min(n, o.ResumeRate*int(sweepEvery/time.Second))
	}
	return n - int(s.reg.Count(session.Resuming))
}

// wakesPerPlace is how many resumes one slot can serve between two sweeps, by a low estimate.
const wakesPerPlace = 16

// drain ends all sessions within d: sessions without a command in progress first, at even intervals, so that
// their clients don't all reconnect at once; the others when their commands are done; the remaining ones at
// the end of d.
func (s *Server) drain(d time.Duration) {
	begun := s.now()
	deadline := begun.Add(d)
	var left []*session.Session
	s.reg.Each(func(c *session.Session) {
		if c.LoggedIn() {
			left = append(left, c)
		}
	})
	if len(left) == 0 {
		return
	}
	s.tel.Log.Info("draining", "sessions", len(left), "within", d)
	rand.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
	// Four fifths of the time are for sessions that end regularly, the rest for stuck ones.
	ends := pace{begun: begun, within: d * 4 / 5, of: len(left)}
	for len(left) > 0 && s.now().Before(deadline) {
		var busy []*session.Session
		for i, c := range left {
			if c.Reason() != "" {
				continue
			}
			if c.Busy() && s.now().Before(begun.Add(ends.within)) {
				busy = append(busy, c)
				continue
			}
			c.Terminate(session.ReasonShutdown)
			if ends.step(); i < len(left)-1 || len(busy) > 0 {
				wait(ends.wait(s.now()))
			}
		}
		if len(busy) == len(left) {
			wait(min(50*time.Millisecond, d/10))
		}
		left = busy
	}
	// Clients that were sent BYE may still be reading it.
	for s.reg.LoggedIn() > 0 && s.now().Before(deadline) {
		wait(min(20*time.Millisecond, d/10))
	}
	s.reg.Each(func(c *session.Session) {
		if c.LoggedIn() {
			c.Abort(session.ReasonShutdown)
		}
	})
}

// wait sleeps for d.
func wait(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// crowded says whether a session or a watch may not get another connection when there are this many
// connections to backends.
func (s *Server) crowded(backends int) bool {
	return s.set.Load().Limits.Crowded(int(s.reg.Total()), backends)
}

// Listed takes the capabilities that a backend lists before login, as a health check has read them.
func (s *Server) Listed(backend string, capabilities []string) {
	s.env.Capabilities.Listed(backend, capabilities, s.now())
}

// Capabilities returns what a backend can do, and whether that is known from logins.
func (s *Server) Capabilities(backend string) (capabilities []string, login bool) {
	return s.env.Capabilities.Known(backend)
}

// forgetQueues removes the queues of backends that were removed.
func (s *Server) forgetQueues() {
	there := map[string]bool{}
	for _, b := range s.set.Load().Router.Backends() {
		there[b.ID] = true
	}
	s.env.Queues.Forget(func(id string) bool { return !there[id] })
}

// Waiting returns how many sessions wait for a connection to each backend, by the backend's ID.
func (s *Server) Waiting() map[string]int {
	waiting := map[string]int{}
	if s.reg.Count(session.Resuming) == 0 {
		return waiting
	}
	s.reg.Some(func(int) bool { return false }, func(c *session.Session) {
		if c.LoggedIn() && c.Attachment() == session.Resuming {
			waiting[c.Backend()]++
		}
	})
	return waiting
}

// LoggedIn returns how many sessions count for Limits.Connections, and that limit; 0: there is none.
func (s *Server) LoggedIn() (sessions, limit int) {
	return int(s.reg.LoggedIn()), s.set.Load().Limits.Connections
}

// Certificates returns those of all listeners.
func (s *Server) Certificates() (all []CertificateStatus) {
	for _, l := range s.listeners {
		if c := l.set.Load().certs; c != nil {
			all = append(all, c.status(l.opts.Name)...)
		}
	}
	return all
}

// Authorities describes the listeners' authorities for the certificates of clients.
func (s *Server) Authorities() (all []AuthorityStatus) {
	for _, l := range s.listeners {
		if c := l.set.Load().clients; c != nil {
			all = append(all, c.status(l.opts.Name)...)
		}
	}
	return all
}

// Status has a few figures of the server.
type Status struct {
	Version      string
	Hostname     string
	Started      time.Time
	Draining     bool
	Leaving      bool              // a successor accepts the clients
	Listeners    map[string]string // bound addresses by name
	Sessions     int64
	Attachments  map[string]int64
	BackendConns int64 // held by sessions
}

// Status returns the current figures.
func (s *Server) Status() Status {
	set := s.set.Load()
	st := Status{Version: set.Version, Hostname: set.Hostname, Started: s.started, Draining: s.draining.Load(), Leaving: s.leaving.Load(),
		Listeners: s.Addrs(), Sessions: s.reg.Total(), Attachments: map[string]int64{}}
	for _, a := range s.reg.Attachments() {
		st.Attachments[a.Attachment] = a.Count
	}
	st.BackendConns = st.Attachments[session.Attached.String()] + st.Attachments[session.Parking.String()] + st.Attachments[session.CatchingUp.String()]
	return st
}

// Sessions lists sessions, a page at a time; next is the Filter.After of the
// next page, "" when there is none.
func (s *Server) Sessions(f session.Filter) (page []session.Info, next string) {
	var ids []string
	if f.Backend != "" {
		ids = s.set.Load().Router.Named(f.Backend)
	}
	return s.reg.Page(f, ids)
}

package session

import (
	"context"
	"errors"
	"slices"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// discoveryWait is how long a login waits for discovery's first answer about its backend: a proxy listens
// before it knows any backend.
const discoveryWait = 3 * time.Second

// attach picks the user's backend and logs in to it: the pinned backend or, if storage is shared and that one
// can't be reached, the next ones.
func (p *preLogin) attach(ctx context.Context, a *attempt, login upstream.Auth, placement string) error {
	if placement == "" {
		where, err := p.placement(ctx, a, login.User)
		if err != nil {
			return err
		}
		placement = where
	}
	ttl, ok := p.nextTTL()
	if !ok {
		return errLoop
	}
	var target upstream.Target
	client := upstream.Client{Addr: p.addr, LocalAddr: p.local, SessionID: p.Session.id, ProxyTTL: ttl, TLS: p.clientTLS(),
		Observe: func(phase string, start, end time.Time, err error) {
			a.trace.AddRemote(phase, start, end, err, telemetry.Peer{Backend: target.Name, Address: target.Address, Failure: upstream.Outcome(err)})
		}}
	var last error
	settled := p.env.Now().Add(discoveryWait)
	blame := blame{p: p}
	choose := p.set.Router.PickWithin
	if a.proof != upstream.Verified {
		choose = p.set.Router.PickUnproved
	}
	for try := 0; try < maxBackends; try++ {
		asked, end := p.asks(ctx, a, login.User) // before the pick, whose claim counts already
		endPick := a.trace.Phase(telemetry.PhasePick)
		pick, err := choose(ctx, settled.Sub(p.env.Now()), login.User, placement, blame.tried...)
		endPick(err)
		if err != nil {
			end()
			return errors.Join(last, err)
		}
		a.backend = pick.Backend.Shown()
		switch waited, err := p.waitPaused(ctx, a, pick); {
		case err != nil:
			end()
			return errors.Join(last, err)
		case waited:
			end()
			settled = p.env.Now().Add(discoveryWait)
			try--
			continue
		}
		target = p.targetOf(pick.Backend)
		client.Listed = p.env.Capabilities.listedBy(pick.Backend.ID, p.env.Now)
		c := p.pooled(ctx, a, target, login)
		if c == nil {
			c, err = p.loginAt(asked, a, target, login, client)
			if err == nil { // a connection from the pool says nothing about new ones
				p.set.Router.ReportDialSuccess(pick.Backend.ID)
			}
		}
		moves := brokenOff(asked, err)
		end()
		if moves != nil {
			pick.Release()
			last = moves
			try-- // the router has the next attempt wait
			continue
		}
		if err == nil {
			if pick.Confirm() {
				p.user = login.User
				p.pick.Store(pick)
				p.cred = &credential{password: []byte(a.password), asUser: a.proof != upstream.Verified, mechanism: a.mechanism, stamp: a.stamp, given: a.given, asked: p.env.Now(), until: p.expiry(a)}
				if p.cred.asUser {
					p.cred.asked = c.LoggedIn
				}
				p.proxyTTL = uint8(ttl) // at most maxTTL
				p.caps.Store(p.env.Capabilities.saw(pick.Backend.ID, c.Caps, p.env.Now()))
				p.backend.Store(c)
				return nil
			}
			_ = c.Close()
			err = errMoved
		} else if !blame.again(ctx, target, login, err) {
			pick.Release()
			return err
		}
		pick.Release()
		last = err
	}
	return last
}

// errMoved says that the user was sent to another backend while they logged in.
var errMoved = errors.New("the user was sent to another backend during each login")

// errLoop says that a login has passed through too many proxies.
var errLoop = errors.New("a loop of proxies (x-proxy-ttl is used up)")

// forgetLogin releases what a login has acquired, when the session ends before its relay begins.
func (p *preLogin) forgetLogin() {
	p.detach()
	p.env.Registry.leaveUser(p.user)
}

// detach releases what attach has acquired.
func (p *preLogin) detach() {
	p.cred.wipe()
	_ = p.backend.Load().Abort()
	p.picked().Release()
}

// handOver makes the session ready for its relay, which tells the client first that it is logged in.
func (p *preLogin) handOver() {
	s := p.Session
	s.inFlight.Texts = &s.env.Texts
	s.inFlight.Init(s.set.Park.Hub != nil || s.set.Shared.Space.On(), resync.Choose(s.caps.Load().list, 0) != (resync.ByQResync{}))
	s.out.conn, s.out.hangUp = s.client, s.hangUp // not at a boundary yet: nothing may be sent before the OK
	s.relays()
	var line []byte
	b := s.backend.Load()
	for _, u := range b.Untagged {
		line = append(append(line, u...), "\r\n"...)
	}
	line = append(line, p.loginTag+" OK [CAPABILITY "...)
	line = shown(b.Caps, s.offersCompression()).Append(line)
	line = append(line, "] Logged in\r\n"...)
	b.Untagged, b.Caps, b.LoginText = nil, nil, ""

	s.greeting = line
	s.client.Unread(p.r.Buffered())
	// From here on other goroutines see the session and may end it. Set the times first, so that it doesn't
	// look idle since 1970.
	s.seen(s.env.Now())
	s.lastHeard.Store(s.lastSeen.Load())
	s.show(phases[phaseRelay].shown) // set before the session is visible, so that it isn't ended as one without a backend
	s.loggedIn.Store(true)
	s.env.Registry.enter(s)
	p.recheckIfLate()
	switch { // a drain or kick may have passed over the session before it was visible
	case s.env.Draining():
		s.Terminate(ReasonShutdown)
	case s.env.Registry.kicks.since(s.user, p.asked):
		s.Terminate(ReasonKicked)
	}
}

// recheckIfLate asks for a recheck of all sessions if a source has changed since the password was checked: a
// round may have passed over a login that was in progress.
func (p *preLogin) recheckIfLate() {
	if now := p.env.Settings().Sources; !slices.Equal(now, p.set.Sources) || auth.Version(now) != p.sources {
		p.env.Recheck()
	}
}

package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// mechanisms are the SASL mechanisms that are offered.
var mechanisms = auth.Mechanisms()

// maxBackends is how many backends one login tries.
const maxBackends = 3

// loginCommand is LOGIN (RFC 9051 §6.2.3).
func (p *preLogin) loginCommand(ctx context.Context, tag string, args []byte) (done bool, err error) {
	if !p.mayLogin() {
		return false, p.cleartext(ctx, tag, auth.MechanismCommand)
	}
	user, rest, err := wire.AString(args)
	if err != nil || len(rest) == 0 {
		return false, p.bad(tag, "LOGIN takes a user name and a password")
	}
	password, rest, err := wire.AString(rest)
	if err != nil || len(rest) != 0 {
		return false, p.bad(tag, "LOGIN takes a user name and a password")
	}
	return p.login(ctx, tag, auth.MechanismCommand, "", user, telemetry.Secret(password))
}

// authenticate is AUTHENTICATE (RFC 9051 §6.2.2) with or without an initial
// response (RFC 4959).
func (p *preLogin) authenticate(ctx context.Context, tag string, args []byte) (done bool, err error) {
	name, initial, hasInitial := cutArgs(args)
	if !p.mayLogin() {
		return false, p.cleartext(ctx, tag, name)
	}
	x, err := auth.NewExchange(name, initial, hasInitial)
	if err != nil {
		p.attempts++
		return false, p.say(tag + " NO [CANNOT] Authentication mechanism not available\r\n")
	}
	challenge, finished, err := x.Next(nil)
	for err == nil && !finished {
		if err := p.say("+ " + string(challenge) + "\r\n"); err != nil {
			return false, err
		}
		line, rerr := p.r.ReadLine(auth.MaxResponseLine + 2)
		if rerr != nil {
			return false, p.unreadable(nil, rerr)
		}
		challenge, finished, err = x.Next(trimEOL(line))
	}
	if err != nil {
		return false, p.exchangeFailed(ctx, tag, x.Mechanism(), err)
	}
	authzid, user, password := x.Result()
	return p.login(ctx, tag, x.Mechanism(), authzid, user, password)
}

// exchangeFailed answers an AUTHENTICATE that yielded no credentials.
func (p *preLogin) exchangeFailed(ctx context.Context, tag, mechanism string, err error) error {
	if errors.Is(err, auth.ErrMessage) {
		return p.failed(ctx, attempt{tag: tag, mechanism: mechanism, begun: p.srv.now()}, auth.ReasonOf(err))
	}
	if !errors.Is(err, auth.ErrCancelled) {
		p.failureLine(ctx, p.addrOnly(mechanism), auth.ReasonOf(err))
	}
	text := "Authentication exchange cancelled"
	if errors.Is(err, auth.ErrSyntax) {
		text = "Authentication response isn't valid base64, or is too long"
	}
	return p.bad(tag, text)
}

// attempt is one login while it goes on.
type attempt struct {
	tag, mechanism string
	user           string // canonical, or what the client sent if it has no canonical form
	source         string // the credential source that decided
	backend        string
	begun          time.Time
	trace          *telemetry.LoginTrace
	err            error // for trace and log
}

func (p *preLogin) addrOnly(mechanism string) attempt { return attempt{mechanism: mechanism} }

// login authenticates, picks a backend and logs in there. done means that the
// session has user, pick and backend, and that the client has been told.
func (p *preLogin) login(ctx context.Context, tag, mechanism, authzid, user string, password telemetry.Secret) (done bool, err error) {
	a := attempt{tag: tag, mechanism: mechanism, user: user, begun: p.srv.now()}
	a.trace = p.srv.tel.BeginLogin(p.Session.id, p.begun)
	if !p.tls.end.IsZero() {
		a.trace.Add(telemetry.PhaseTLS, p.tls.start, p.tls.end, nil)
	}
	defer func() { p.begun, p.tls.end = p.srv.now(), time.Time{} }()

	creds, err := auth.NewCredentials(p.set.Names, mechanism, authzid, user, password)
	if err != nil {
		a.err = err
		return false, p.failed(ctx, a, auth.ReasonOf(err))
	}
	a.user = creds.User
	endAuth := a.trace.Phase(telemetry.PhaseAuth)
	verdict, source := auth.First(ctx, p.set.Sources, creds)
	a.source = source
	placement := ""
	login := p.set.Login
	login.User, login.Password = creds.User, creds.Password
	switch v := verdict.(type) {
	case auth.Accepted:
		placement = v.Placement
		endAuth(nil)
	case auth.AskBackend:
		login.Mode = upstream.ModeUser // nobody but the backend knows the password
		endAuth(nil)
	case auth.Rejected:
		a.err = errors.New(string(v.Reason))
		endAuth(a.err)
		return false, p.failed(ctx, a, v.Reason)
	case auth.Unavailable:
		a.err = v.Err
		endAuth(a.err)
		return false, p.unavailable(ctx, a)
	default:
		panic(fmt.Sprintf("proxy: a verdict %T that First never gives", v))
	}
	if !p.srv.reg.admitUser(creds.User, p.set.Limits.PerUser) {
		a.err = errors.New("over limits.per_user")
		p.srv.tel.Refused("per_user")
		return false, p.refused(ctx, a, auth.ReasonLimit, "NO [LIMIT] Too many sessions of this user")
	}
	ok := false
	defer func() {
		if !ok {
			p.srv.reg.leaveUser(creds.User)
		}
	}()
	if err := p.attach(ctx, &a, login, placement); err != nil {
		a.err = err
		return false, p.notAttached(ctx, a, err)
	}
	p.succeeded(a)
	ok = true
	return true, nil
}

// attach finds the user's backend and logs in to it: the pinned one, and where
// storage is shared and it can't be reached the next ones.
func (p *preLogin) attach(ctx context.Context, a *attempt, login upstream.Auth, placement string) error {
	if placement == "" && p.set.Placement != nil {
		where, _, err := p.set.Placement(ctx, login.User)
		if err != nil {
			return fmt.Errorf("placement: %w", err)
		}
		placement = where
	}
	ttl, ok := p.nextTTL()
	if !ok {
		return errLoop
	}
	client := upstream.Client{Addr: p.addr, LocalAddr: p.local, SessionID: p.Session.id, ProxyTTL: ttl,
		Observe: func(phase string, start, end time.Time, err error) { a.trace.Add(phase, start, end, err) }}
	var tried []string
	var last error
	for try := 0; try < maxBackends; try++ {
		endPick := a.trace.Phase(telemetry.PhasePick)
		pick, err := p.set.Router.Pick(login.User, placement, tried...)
		endPick(err)
		if err != nil {
			return errors.Join(last, err)
		}
		a.backend = pick.Backend.ID
		c, err := p.set.Dialer.Login(ctx, p.target(pick.Backend), login, client)
		var down *upstream.Unavailable
		switch {
		case err == nil:
			p.set.Router.ReportDialSuccess(pick.Backend.ID)
			if pick.Confirm() {
				p.pick, p.backend, p.user = pick, c, login.User
				return nil
			}
			_ = c.Close() // the user was sent elsewhere meanwhile
		case errors.As(err, &down) && down.BackendDown():
			p.set.Router.ReportDialFailure(pick.Backend.ID, err)
			p.srv.tel.Retry(down.Stage)
			tried = append(tried, pick.Backend.ID)
			p.log.Warn("backend can't be reached", "backend", pick.Backend.ID, "error", err)
		default:
			pick.Release()
			return err
		}
		pick.Release()
		last = err
	}
	return last
}

// errLoop means that a login has come round through too many proxies.
var errLoop = errors.New("a loop of proxies (x-proxy-ttl is used up)")

// target is how a backend is reached.
func (p *preLogin) target(b *routing.Backend) upstream.Target {
	t := upstream.Target{ID: b.ID, Address: b.Address, TLS: b.TLS, ServerName: b.ServerName}
	if t.TLS == "" {
		t.TLS = p.set.BackendTLS
	}
	if t.ServerName == "" {
		t.ServerName = p.set.BackendServerName
	}
	return t
}

// succeeded records a login.
func (p *preLogin) succeeded(a attempt) {
	p.srv.tel.Login(a.mechanism, a.source, "ok", p.srv.now().Sub(a.begun))
	p.trace = a.trace.End(a.user, a.backend, "ok", nil)
	p.log = p.srv.tel.SessionLogger(p.Session.id, a.trace.TraceID()).With("user", a.user, "backend", a.backend)
	p.log.Info("login", "client", p.addr.String(), "listener", p.lis.opts.Name, "tls", p.secure.Load(),
		"mechanism", a.mechanism, "source", a.source, "pick", string(p.pick.Why))
	p.loginTag = a.tag
}

// notAttached answers a login that no backend took.
func (p *preLogin) notAttached(ctx context.Context, a attempt, err error) error {
	var refused *upstream.Refused
	if errors.As(err, &refused) {
		return p.failed(ctx, a, auth.ReasonBackendRefused)
	}
	if errors.Is(err, context.Canceled) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		p.record(ctx, a, auth.ReasonUnavailable)
		return p.broken(contextEnd(p))
	}
	return p.unavailable(ctx, a)
}

// contextEnd is the end that the context's end means.
func contextEnd(p *preLogin) error {
	if p.srv.draining.Load() {
		return &endError{reason: ReasonShutdown}
	}
	return &endError{reason: ReasonLoginTimeout}
}

// failed answers wrong credentials, after a delay that makes guessing slow.
func (p *preLogin) failed(ctx context.Context, a attempt, why auth.Reason) error {
	p.record(ctx, a, why)
	p.attempts++
	select {
	case <-time.After(p.set.Limits.AuthFailureDelay):
	case <-ctx.Done():
		return contextEnd(p)
	}
	if errors.Is(a.err, auth.ErrAuthzid) {
		return p.say(a.tag + " NO [AUTHORIZATIONFAILED] Not allowed to act as another user\r\n")
	}
	return p.say(a.tag + " NO [AUTHENTICATIONFAILED] Authentication failed\r\n")
}

// unavailable answers when nobody can tell, or no backend is there: never as if
// the credentials were wrong, which would have the client ask for a new password.
func (p *preLogin) unavailable(ctx context.Context, a attempt) error {
	p.log.Error("login impossible", "user", a.user, "error", a.err)
	return p.refused(ctx, a, auth.ReasonUnavailable, "NO [UNAVAILABLE] The mail server is temporarily unavailable, please try again later")
}

func (p *preLogin) refused(ctx context.Context, a attempt, why auth.Reason, answer string) error {
	p.record(ctx, a, why)
	p.attempts++
	return p.say(a.tag + " " + answer + "\r\n")
}

// cleartext answers a login where passwords may not come in the clear (RFC 9051
// §6.2.3; the password, if it came, isn't looked at).
func (p *preLogin) cleartext(ctx context.Context, tag, mechanism string) error {
	p.attempts++
	p.failureLine(ctx, attempt{mechanism: mechanism}, auth.ReasonCleartext)
	return p.say(tag + " NO [PRIVACYREQUIRED] Login needs TLS\r\n")
}

// record has metric, trace and log tell of a failed login.
func (p *preLogin) record(ctx context.Context, a attempt, why auth.Reason) {
	if a.err == nil {
		a.err = errors.New(string(why))
	}
	p.srv.tel.Login(a.mechanism, a.source, string(why), p.srv.now().Sub(a.begun))
	_ = a.trace.End(a.user, a.backend, string(why), a.err)
	p.failureLine(ctx, a, why)
}

func (p *preLogin) failureLine(ctx context.Context, a attempt, why auth.Reason) {
	p.srv.tel.LoginFailure(string(why))
	log := p.srv.tel.SessionLogger(p.Session.id, a.trace.TraceID())
	auth.LogFailure(ctx, log, auth.Failure{Client: p.addr, User: a.user, Mechanism: a.mechanism, Reason: why})
}

// forgetLogin gives back what a login has got, when the session ends before its
// relay begins.
func (p *preLogin) forgetLogin() {
	_ = p.backend.Abort()
	p.pick.Release()
	p.srv.reg.leaveUser(p.user)
}

// handOver tells the client that it is logged in, and makes the session ready
// for its relay.
func (p *preLogin) handOver() {
	s := p.Session
	s.flight.init()
	s.out.conn, s.out.hangUp = s.client, s.hangUp // no boundary yet: nothing comes before the OK
	s.up.s, s.down.s = s, s
	s.down.scan.Direction = wire.Responses
	var line []byte
	for _, u := range s.backend.Untagged {
		line = append(append(line, u...), "\r\n"...)
	}
	line = append(line, p.loginTag+" OK [CAPABILITY "...)
	line = s.backend.Caps.Without(hidden).Append(line)
	line = append(line, "] Logged in\r\n"...)
	s.backend.Untagged, s.backend.Caps, s.backend.LoginText = nil, nil, ""

	// From here on others see the session, and may end it.
	s.transition(Attached)
	s.identity.Store(&identity{user: s.user, backend: s.pick.Backend.ID, why: string(s.pick.Why)})
	if s.srv.draining.Load() { // drain may have looked before identity was there
		s.over(ReasonShutdown)
	}
	_ = s.client.SetDeadline(time.Time{})
	s.client.Unread(p.r.Buffered())
	if err := s.out.relay(line, true); err != nil {
		s.over(ReasonClientLost)
	}
	s.seen(s.srv.now())
}

func trimEOL(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return b
}

// cutArgs splits AUTHENTICATE's arguments.
func cutArgs(args []byte) (name string, initial []byte, has bool) {
	for i, c := range args {
		if c == ' ' {
			return string(args[:i]), args[i+1:], true
		}
	}
	return string(args), nil, false
}

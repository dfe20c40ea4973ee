package session

import (
	"context"
	"errors"
	"fmt"

	"imapproxy/internal/fair"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// loginCommand handles LOGIN (RFC 9051 §6.2.3).
func (p *preLogin) loginCommand(ctx context.Context, tag string, args []byte) (done bool, err error) {
	defer clear(args) // overwrites the password in the reader's buffer, on each return
	if !p.mayLogin() {
		return false, p.cleartext(ctx, tag, auth.MechanismCommand)
	}
	if !p.offers(auth.MechanismPlain) {
		p.attempts++
		return false, p.say(tag + " NO [CANNOT] Passwords aren't taken here\r\n")
	}
	user, rest, err := wire.LoginString(args)
	if err != nil || len(rest) == 0 {
		return false, p.bad(tag, "LOGIN takes a user name and a password")
	}
	password, rest, err := wire.LoginString(rest)
	if err != nil || len(rest) != 0 {
		return false, p.bad(tag, "LOGIN takes a user name and a password")
	}
	clear(args) // before the login, which may take long
	return p.login(ctx, tag, auth.MechanismCommand, "", user, telemetry.Secret(password))
}

// authenticate handles AUTHENTICATE (RFC 9051 §6.2.2) with or without an initial response (RFC 4959).
func (p *preLogin) authenticate(ctx context.Context, tag string, args []byte) (done bool, err error) {
	name, initial, hasInitial := cutArgs(args)
	if !p.mayLogin() {
		clear(initial)
		return false, p.cleartext(ctx, tag, name)
	}
	x, err := auth.NewExchange(name, initial, hasInitial)
	clear(initial) // overwrites it in the reader's buffer; the exchange has a copy
	if err != nil || !p.offers(name) {
		p.attempts++
		return false, p.say(tag + " NO [CANNOT] Authentication mechanism not available\r\n")
	}
	challenge, finished, err := x.Next(nil)
	for err == nil && !finished {
		if err := p.say("+ " + string(challenge) + "\r\n"); err != nil {
			return false, err
		}
		p.exchanging = auth.OfToken(x.Mechanism())
		line, rerr := p.r.ReadLarge(auth.MaxResponseLine + 2)
		p.exchanging = false
		if rerr != nil {
			return false, p.unreadable(nil, rerr)
		}
		challenge, finished, err = x.Next(trimEOL(line))
		clear(line) // overwrites it in the reader's buffer
	}
	p.noLongerLarge()
	if err != nil {
		return false, p.exchangeFailed(ctx, tag, x.Mechanism(), err)
	}
	authzid, user, password := x.Result()
	return p.login(ctx, tag, x.Mechanism(), authzid, user, password)
}

// exchangeFailed answers an AUTHENTICATE that gave no credentials.
func (p *preLogin) exchangeFailed(ctx context.Context, tag, mechanism string, err error) error {
	if errors.Is(err, auth.ErrMessage) {
		return p.failed(ctx, attempt{tag: tag, mechanism: mechanism, begun: p.commanded}, auth.ReasonOf(err))
	}
	if !errors.Is(err, auth.ErrCancelled) {
		p.failureLine(ctx, attempt{mechanism: mechanism}, auth.ReasonOf(err))
	}
	text := "Authentication exchange cancelled"
	if errors.Is(err, auth.ErrSyntax) {
		text = "Authentication response isn't valid base64, or is too long"
	}
	p.attempts++
	return p.say(tag + " BAD " + text + "\r\n")
}

// login authenticates the client, picks a backend and logs in there. done says that the session has user, pick
// and backend, and that the client is logged in.
func (p *preLogin) login(ctx context.Context, tag, mechanism, authzid, user string, password telemetry.Secret) (done bool, err error) {
	a := attempt{tag: tag, mechanism: mechanism, user: user, begun: p.commanded}
	a.trace = p.env.Telemetry.BeginLogin(p.Session.id, a.begun)
	if mechanism != auth.MechanismCommand {
		a.trace.Add(telemetry.PhaseExchange, a.begun, p.env.Now(), nil)
	}
	p.set = p.env.Settings() // a reload may have happened since the client connected

	creds, err := auth.NewCredentials(p.set.Names, mechanism, authzid, user, password)
	if err != nil {
		a.err = err
		return false, p.failed(ctx, a, auth.ReasonOf(err))
	}
	a.user, a.password = creds.User, creds.Password
	if ok, err := p.delay(ctx, &a); !ok {
		return false, err
	}
	p.env.Places.clients.Works(p.place, true)
	defer p.env.Places.clients.Works(p.place, false)
	creds.Client, creds.Local, creds.TLS, creds.Attempt = p.addr.Addr(), p.local.Addr(), p.secure.Load(), p.attempts+1
	creds.Known = p.env.Places.knows(fair.Network(creds.Client))
	p.asked, p.sources = p.env.Now(), auth.Version(p.set.Sources)
	endAuth := a.trace.Phase(telemetry.PhaseAuth)
	verdict, source := auth.First(ctx, p.set.Sources, creds)
	a.source = source
	placement := ""
	login := p.set.Login
	if login.User = creds.User; !auth.OfToken(mechanism) {
		login.Password = creds.Password
	}
	switch v := verdict.(type) {
	case auth.Accepted:
		placement = v.Placement
		a.accepted(v, &login)
		if auth.OfToken(mechanism) && login.Mode != upstream.ModeMaster && v.Password == "" {
			a.err = errNoMaster
			endAuth(a.err)
			return false, p.unavailable(ctx, a)
		}
		endAuth(nil)
	case auth.AskBackend:
		login.Mode = upstream.ModeUser // only the backend can check the password
		endAuth(nil)
	case auth.Rejected:
		a.err, a.wait = errors.New(string(v.Reason)), v.Wait
		if v.Reason == auth.ReasonBadAuthzid {
			a.err = auth.ErrAuthzid
		}
		endAuth(a.err)
		return false, p.failed(ctx, a, v.Reason)
	case auth.Unavailable:
		a.err = v.Err
		endAuth(a.err)
		return false, p.unavailable(ctx, a)
	default:
		panic(fmt.Sprintf("proxy: a verdict %T that First never gives", v))
	}
	// A session is counted once its password is proved: if it were counted before the backend proves it,
	// another person's guesses would use up the user's limit.
	admitted, ok := false, false
	defer func() {
		if admitted && !ok {
			p.env.Registry.leaveUser(login.User)
		}
	}()
	if a.proof == upstream.Verified {
		if over := p.env.Registry.admitUser(login.User, p.set.Limits); over != "" {
			return false, p.overLimit(ctx, a, over)
		}
		admitted = true
	}
	if err := p.attach(ctx, &a, login, placement); err != nil {
		a.err = err
		return false, p.notAttached(ctx, a, err)
	}
	if !admitted {
		if over := p.env.Registry.admitUser(login.User, p.set.Limits); over != "" {
			p.detach()
			p.backend.Store(nil)
			return false, p.overLimit(ctx, a, over)
		}
		admitted = true
	}
	p.succeeded(a)
	ok = true
	return true, nil
}

// errNoMaster says that the backend can't be told of a user who has no password.
var errNoMaster = errors.New("a client that logged in with a token has no password for the backend: backend_login { mode = \"master\" } is needed")

// succeeded records a successful login.
func (p *preLogin) succeeded(a attempt) {
	a.guess.Right(p.env.Now())
	p.env.Places.loggedIn(fair.Network(p.addr.Addr()))
	p.env.Telemetry.Login(a.mechanism, a.source, "ok", p.env.Now().Sub(a.begun))
	if link := a.trace.End(a.user, a.backend, "ok", nil); link.IsSampled() {
		p.link = &link
	}
	about := []any{"client", p.addr.String(), "listener", p.lis.Name, "tls", p.secure.Load(),
		"mechanism", a.mechanism, "source", a.source, "pick", string(p.picked().Why)}
	if a.given != nil && a.given.login != "" {
		about = append(about, "login", a.given.login)
	}
	p.log().Info("login", about...)
	p.loginTag = a.tag
}

func trimEOL(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return b
}

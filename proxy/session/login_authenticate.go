package session

import (
	"context"
	"strings"

	"imapproxy/proxy/auth"
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
		return false, p.say(tag + " NO [CANNOT] Passwords aren't accepted here\r\n")
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
	if mechanism := strings.ToUpper(name); auth.OfScram(mechanism) && p.offers(mechanism) {
		return p.scram(ctx, tag, mechanism, initial, hasInitial)
	}
	if strings.EqualFold(name, auth.MechanismExternal) {
		if err := p.refusesCertificate(); err != nil {
			return false, p.uncertified(ctx, attempt{tag: tag, mechanism: auth.MechanismExternal, begun: p.commanded}, err)
		}
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
	if x.Mechanism() == auth.MechanismExternal {
		return p.external(ctx, tag, authzid)
	}
	return p.login(ctx, tag, x.Mechanism(), authzid, user, password)
}

// login authenticates the client, picks a backend and logs in there. done says that the session has user, pick
// and backend, and that the client is logged in.
func (p *preLogin) login(ctx context.Context, tag, mechanism, authzid, user string, password telemetry.Secret) (done bool, err error) {
	a := attempt{tag: tag, mechanism: mechanism, user: user, begun: p.commanded}
	a.trace = p.env.Telemetry.BeginLogin(p.Session.id, p.addr, a.begun)
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
	p.asking(&creds, a.trace)
	if ok, err := p.policyBefore(ctx, &a, creds); !ok {
		return false, err
	}
	endAuth := a.trace.Phase(telemetry.PhaseAuth)
	verdict, source := auth.First(ctx, p.set.Sources, creds)
	a.source = source
	return p.decided(ctx, a, creds, verdict, endAuth)
}

package session

import (
	"context"
	"errors"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// external logs in the user whom the client's certificate names (RFC 4422, appendix A). The client may name the same user as
// well, and no other. No login waits as a guess would: a certificate can't be guessed.
func (p *preLogin) external(ctx context.Context, tag, authzid string) (done bool, err error) {
	a := attempt{tag: tag, mechanism: auth.MechanismExternal, begun: p.commanded}
	a.trace = p.env.Telemetry.BeginLogin(p.Session.id, p.addr, a.begun)
	a.trace.Add(telemetry.PhaseExchange, a.begun, p.env.Now(), nil)
	p.set = p.env.Settings()
	user, err := p.certified(p.env.Now()) // once more: it was good when the exchange began
	if err != nil {
		return false, p.uncertified(ctx, a, err)
	}
	a.user = user
	creds, err := auth.NewNamed(p.set.Names, a.mechanism, authzid, user)
	if err != nil {
		a.err = err
		return false, p.failed(ctx, a, auth.ReasonOf(err))
	}
	a.user, a.password = creds.User, p.fingerprint()
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

// verdictFor is how long the verdict about a certificate counts for what a client is offered: to verify one takes processor
// time, and a client may ask often.
const verdictFor = 10 * time.Second

// certificate says why the client can't log in by its certificate; nil: it can.
func (p *preLogin) certificate() error {
	if !p.client.Secure() {
		return errNotAsked
	}
	if now := p.env.Now(); p.verified.IsZero() || now.Sub(p.verified) >= verdictFor {
		_, p.unverified = p.certified(now)
		p.verified = now
	}
	return p.unverified
}

// refusesCertificate says why the client's certificate isn't one to log in by; nil: it is, or the client has none.
func (p *preLogin) refusesCertificate() error {
	if err := p.certificate(); !errors.Is(err, errNotAsked) {
		return err
	}
	return nil
}

// uncertified answers a client whose certificate isn't good.
func (p *preLogin) uncertified(ctx context.Context, a attempt, err error) error {
	a.err = err
	p.log().Info("certificate not accepted", "error", err)
	return p.failed(ctx, a, auth.ReasonBadCertificate)
}

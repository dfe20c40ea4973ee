package session

import (
	"context"
	"crypto/rand"
	"errors"

	"go.opentelemetry.io/otel/attribute"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/auth/authpolicy"
	"imapproxy/telemetry"
)

// scram handles AUTHENTICATE by SCRAM (RFC 5802 §5): the client names the user, is told how the user's password is to be
// hashed, and proves that it knows the password. A user who has no keys is told made-up ones, and fails at the proof.
// A login that may be a guess waits before the sources are asked for the keys.
func (p *preLogin) scram(ctx context.Context, tag, mechanism string, initial []byte, hasInitial bool) (done bool, err error) {
	a := attempt{tag: tag, mechanism: mechanism, begun: p.commanded}
	x := auth.NewScramExchange(mechanism, p.bindings())
	line := initial
	if !hasInitial {
		if line, err = p.response(nil); err != nil {
			return false, err
		}
	}
	err = x.First(line)
	authzid, user := x.Names()
	a.user = user
	if err != nil {
		return false, p.scramFailed(ctx, a, err)
	}
	a.trace = p.env.Telemetry.BeginLogin(p.Session.id, p.addr, a.begun)
	p.set = p.env.Settings()
	creds, err := auth.NewNamed(p.set.Names, mechanism, authzid, user)
	if err != nil {
		a.err = err
		return false, p.failed(ctx, a, auth.ReasonOf(err))
	}
	// The proof is another one each time: that it is the same wrong password can't be seen.
	a.user, a.password = creds.User, telemetry.Secret(rand.Text())
	if ok, err := p.delay(ctx, &a); !ok {
		return false, err
	}
	said, err := p.scramPolicy(ctx, &a, &creds)
	if err != nil {
		return false, p.crowdedOr(ctx, &a, err)
	}
	keys, verdict, err := p.keys(ctx, &a, &creds)
	if err != nil {
		return false, p.unavailable(ctx, a)
	}
	challenge, err := x.Challenge(keys)
	if err != nil {
		return false, p.scramFailed(ctx, a, err)
	}
	if line, err = p.response(challenge); err != nil {
		return false, err
	}
	signature, right, err := x.Final(line)
	if err != nil {
		return false, p.scramFailed(ctx, a, err)
	}
	if said.Refused { // not before: a wrong password is refused here
		return false, p.policyRefused(ctx, &a, said)
	}
	accepted, in := verdict.(auth.Accepted)
	switch {
	case !right && in:
		verdict = auth.Rejected{Reason: auth.ReasonBadPassword}
	case !right:
	case in:
		// RFC 3501 has no data with the OK: the client answers them with an empty line.
		if line, err = p.response(signature); err != nil {
			return false, err
		}
		if len(line) != 0 {
			return false, p.exchangeFailed(ctx, tag, mechanism, auth.ErrCancelled)
		}
		a.password = telemetry.Secret(keys.Proof())
		verdict = accepted
	}
	p.env.Places.clients.Works(p.place, true)
	defer p.env.Places.clients.Works(p.place, false)
	return p.decided(ctx, a, creds, verdict, func(error, ...attribute.KeyValue) {})
}

// scramPolicy asks the policy server, which is told no password.
func (p *preLogin) scramPolicy(ctx context.Context, a *attempt, creds *auth.Credentials) (authpolicy.Answer, error) {
	p.env.Places.clients.Works(p.place, true)
	defer p.env.Places.clients.Works(p.place, false)
	p.asking(creds, a.trace)
	return p.policyAsked(ctx, a, *creds)
}

// keys asks the sources for the user's keys. The error says that none can tell.
func (p *preLogin) keys(ctx context.Context, a *attempt, creds *auth.Credentials) (k auth.Keys, v auth.Verdict, err error) {
	p.env.Places.clients.Works(p.place, true)
	defer p.env.Places.clients.Works(p.place, false)
	p.asking(creds, a.trace)
	end := a.trace.Phase(telemetry.PhaseAuth)
	k, v, a.source = auth.FirstKeys(ctx, p.set.Sources, *creds)
	if u, ok := v.(auth.Unavailable); ok {
		a.err = u.Err
	}
	end(a.err, sourceAttr(a.source))
	return k, v, a.err
}

// response sends a challenge, and reads the client's answer.
func (p *preLogin) response(challenge []byte) ([]byte, error) {
	if err := p.say("+ " + string(challenge) + "\r\n"); err != nil {
		return nil, err
	}
	line, err := p.r.ReadLine(maxPreLine)
	if err != nil {
		return nil, p.unreadable(nil, err)
	}
	return trimEOL(line), nil
}

// scramFailed answers messages that aren't SCRAM's, or that came over another TLS connection.
func (p *preLogin) scramFailed(ctx context.Context, a attempt, err error) error {
	if errors.Is(err, auth.ErrMessage) || errors.Is(err, auth.ErrBinding) {
		a.err = err
		return p.failed(ctx, a, auth.ReasonOf(err))
	}
	return p.exchangeFailed(ctx, a.tag, a.mechanism, err)
}

package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/auth/authpolicy"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// errPolicy says that the policy server refuses a login.
var errPolicy = errors.New("the policy server refuses the login")

// policyBefore asks the policy server about a login whose password hasn't been checked; the credentials are complete (asking). Not
// ok: the login is refused, or the error ends the session.
func (p *preLogin) policyBefore(ctx context.Context, a *attempt, creds auth.Credentials) (ok bool, err error) {
	said, err := p.policyAsked(ctx, a, creds)
	switch {
	case err != nil:
		return false, p.crowdedOr(ctx, a, err)
	case said.Refused:
		return false, p.policyRefused(ctx, a, said)
	}
	return true, nil
}

// policyAsked is the question of policyBefore.
func (p *preLogin) policyAsked(ctx context.Context, a *attempt, creds auth.Credentials) (said authpolicy.Answer, err error) {
	if p.set.Policy == nil {
		return said, nil
	}
	a.policy = &policed{server: p.set.Policy, login: authpolicy.Login{Credentials: creds, Session: p.Session.id, Device: p.device}}
	return p.policy(ctx, a, a.policy.server.Before, ctx)
}

// policyRefused answers a login that was refused before its password was checked.
func (p *preLogin) policyRefused(ctx context.Context, a *attempt, said authpolicy.Answer) error {
	if said.Err != nil { // it isn't known whether the login may go on
		a.err = said.Err
		return p.unavailable(ctx, *a)
	}
	a.err = errPolicy
	return p.failed(ctx, *a, auth.ReasonPolicyRefused)
}

// policyAfter asks the policy server about a login whose password was right. The answer to a refusal is that to a wrong password, and
// comes as late; also where the server doesn't answer, which would tell a guesser that the password is right.
//
// A login that a backend has accepted holds its connection meanwhile. If its user is to go to another backend, it waits no longer, so
// that the session can be told to leave.
func (p *preLogin) policyAfter(ctx context.Context, a *attempt, user string) (ok bool, err error) {
	if a.policy == nil {
		return true, nil
	}
	begun := p.env.Now()
	wait, end := p.asks(ctx, a, user)
	said, err := p.policy(ctx, a, a.policy.server.After, wait)
	moves := brokenOff(wait, err)
	end()
	switch {
	case err != nil && (moves == nil || ctx.Err() != nil):
		return false, p.crowdedOr(ctx, a, err)
	case !said.Refused:
		return true, nil
	}
	a.policy.spent = p.env.Now().Sub(begun)
	a.err = errors.Join(errPolicy, said.Err)
	return false, p.failed(ctx, *a, auth.ReasonPolicyRefused)
}

// policy asks, and waits until wait ends if the server says so. The client has a place among those that wait then, as a guesser has. The
// error is that of the wait.
func (p *preLogin) policy(ctx context.Context, a *attempt, ask func(context.Context, authpolicy.Login) authpolicy.Answer, wait context.Context) (said authpolicy.Answer, err error) {
	end := a.trace.Phase(telemetry.PhasePolicy)
	said = ask(ctx, a.policy.login)
	level, text := slog.LevelInfo, "login delayed"
	switch {
	case said.Err != nil:
		level, text = slog.LevelWarn, "policy server not asked"
		if said.Refused {
			text = "login refused, the policy server doesn't answer"
		}
	case said.Refused:
		text = "login refused by the policy server"
	}
	switch length := min(said.Wait, p.set.Limits.PreloginTimeout/4); {
	case length > 0:
		p.env.Telemetry.LoginDelayed("policy")
		p.log().Log(ctx, level, text, "client", p.addr.String(), "user", a.user, "by", "policy", "wait", length, "said", telemetry.Said(said.Msg))
		p.env.Places.clients.Works(p.place, false)
		err = p.env.Guard.Pause(wait, a.guess, length)
		p.env.Places.clients.Works(p.place, true)
	case said.Refused || said.Err != nil:
		p.log().Log(ctx, level, text, "client", p.addr.String(), "user", a.user, "said", telemetry.Said(said.Msg), "error", said.Err)
	}
	end(errors.Join(said.Err, err))
	return said, err
}

// crowdedOr answers a login whose wait didn't come to its end.
func (p *preLogin) crowdedOr(ctx context.Context, a *attempt, err error) error {
	if errors.Is(err, guessing.ErrCrowded) {
		return p.crowded(ctx, *a, err)
	}
	return contextEnd(p)
}

// maxDevice bounds what the policy server is told of a client's ID, in bytes.
const maxDevice = 1024

// device is a client's ID as Dovecot tells it to a policy server: the strings of its list, quoted. What proxies add for proxies is left
// out.
func device(fields []string) string {
	var b []byte
	for i := 0; i+1 < len(fields); i += 2 {
		if strings.HasPrefix(strings.ToLower(fields[i]), "x-") {
			continue
		}
		for _, text := range fields[i : i+2] {
			if len(b) > 0 {
				b = append(b, ' ')
			}
			if wire.CanQuote(text) {
				b = wire.AppendQuoted(b, text)
			} else {
				b = fmt.Appendf(b, "%q", text)
			}
		}
	}
	if len(b) > maxDevice {
		b = b[:maxDevice]
	}
	return strings.ToValidUTF8(string(b), "?")
}

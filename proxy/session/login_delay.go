package session

import (
	"context"
	"errors"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/guessing"
	"imapproxy/telemetry"
)

// delay has a login wait that may be a guess, as long as Env.Guard says, before its password is checked. The client
// isn't at work meanwhile: its place among those that haven't logged in is for others if they need it, and it has none of
// the places that logins share. The settings are those of the end of the wait. Not ok: the login is refused, or the
// error ends the session.
func (p *preLogin) delay(ctx context.Context, a *attempt) (ok bool, err error) {
	rules := p.set.Guessing
	rules.Delay = p.set.Limits.AuthFailureDelay
	rules.Longest = min(rules.Longest, p.set.Limits.PreloginTimeout/2) // the login needs the rest
	a.guess = p.env.Guard.Begin(p.env.Now(), rules, p.addr.Addr(), a.user, a.password.Reveal())
	if a.guess.Waited() == 0 {
		return true, nil
	}
	p.env.Telemetry.LoginDelayed(string(a.guess.By))
	p.log().Info("login delayed", "client", p.addr.String(), "user", a.user, "by", string(a.guess.By), "wait", a.guess.Wait)
	end := a.trace.Phase(telemetry.PhaseDelay)
	err = a.guess.Sleep(ctx)
	end(err)
	switch {
	case errors.Is(err, guessing.ErrCrowded):
		return false, p.crowded(ctx, *a, err)
	case err != nil:
		return false, contextEnd(p)
	}
	a.begun = p.env.Now()
	p.set = p.env.Settings()
	return true, nil
}

// crowded refuses a login that can't even wait, because others of its network do. Its password isn't checked.
func (p *preLogin) crowded(ctx context.Context, a attempt, err error) error {
	a.err = err
	p.env.Telemetry.Refused("guesses")
	select {
	case <-time.After(p.set.Limits.AuthFailureDelay):
	case <-ctx.Done():
		return contextEnd(p)
	}
	return p.refused(ctx, a, auth.ReasonLimit, "NO [LIMIT] Too many logins of your network are waiting, please try again later")
}

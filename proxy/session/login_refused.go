package session

import (
	"context"
	"errors"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// notAttached answers a login that failed at the backend.
func (p *preLogin) notAttached(ctx context.Context, a attempt, err error) error {
	var refused *upstream.Refused
	mode := upstream.ModeUser
	own := a.given.own() != ""
	if a.proof == upstream.Verified && !own {
		mode = p.set.Login.Mode
	}
	words, alerts := upstream.ForUser(err, mode, p.secure.Load())
	if errors.As(err, &refused) && !own { // otherwise the client's password was right
		a.words, a.alerts, a.challenge = words, alerts, refused.Challenge
		why := auth.ReasonBackendRefused
		if until := p.expiry(&a); !until.IsZero() && p.env.Now().After(until) {
			why = auth.ReasonExpiredToken // clients try with what they have
		}
		return p.failed(ctx, a, why)
	}
	if deadline, ok := ctx.Deadline(); ctx.Err() != nil || ok && !p.env.Now().Before(deadline) {
		p.record(ctx, a, auth.ReasonUnavailable)
		return p.broken(contextEnd(p))
	}
	if words != "" {
		p.log().Warn("login refused by the backend", "user", a.user, "error", a.err)
		a.alerts = alerts
		return p.refused(ctx, a, auth.ReasonUnavailable, "NO "+words)
	}
	a.alerts = alerts
	return p.unavailable(ctx, a)
}

// expiry is when a token that a backend is sent expires; the zero time: it isn't known, or no token is sent.
func (p *preLogin) expiry(a *attempt) time.Time {
	if a.proof == upstream.Verified || !auth.OfToken(a.mechanism) {
		return time.Time{}
	}
	return auth.TokenExpiry(a.password)
}

// failed answers wrong credentials, after a delay that slows guessing down.
func (p *preLogin) failed(ctx context.Context, a attempt, why auth.Reason) error {
	if why.Guess() {
		a.guess.Wrong(p.env.Now())
	}
	p.record(ctx, a, why)
	p.attempts++
	select {
	case <-time.After(max(p.set.Limits.AuthFailureDelay-a.guess.Waited(), a.wait) - a.policy.late()):
	case <-ctx.Done():
		return contextEnd(p)
	}
	if auth.OfToken(a.mechanism) && why != auth.ReasonMalformed {
		if a.challenge == nil {
			a.challenge = auth.TokenChallenge(p.set.Sources, a.mechanism)
		}
		if err := p.challenged(a.challenge); err != nil {
			return err
		}
	}
	if errors.Is(a.err, auth.ErrAuthzid) {
		return p.say(a.tag + " NO [AUTHORIZATIONFAILED] Not allowed to act as another user\r\n")
	}
	if a.words == "" {
		a.words = "[AUTHENTICATIONFAILED] Authentication failed"
	}
	return p.say(a.told() + a.tag + " NO " + a.words + "\r\n")
}

// challenged tells a client that its token isn't accepted, and reads its answer, whatever it is: by RFC 7628
// §3.2.3 a ^A in base64, by XOAUTH2 an empty line, or "*". The NO comes after that.
func (p *preLogin) challenged(challenge []byte) error {
	p.env.Places.clients.Works(p.place, false) // it waits for the client
	if err := p.say("+ " + string(challenge) + "\r\n"); err != nil {
		return err
	}
	if _, err := p.r.ReadLine(maxPreLine); err != nil {
		return p.unreadable(nil, err)
	}
	return nil
}

// unavailable answers if no source can decide or no backend is available. It must not look like wrong
// credentials, for which the client would ask for a new password.
func (p *preLogin) unavailable(ctx context.Context, a attempt) error {
	about := []any{"user", a.user, "source", a.source, "error", a.err}
	var refused *upstream.Refused
	switch {
	case errors.As(a.err, &refused): // for the password that a source gave
		about = append(about, "help", "the backend refuses the password that auth "+a.source+" gives for this user: correct it there")
	case p.set.Login.Mode == upstream.ModeMaster:
		// The user's password was right, so the master password is wrong.
		if down, ok := errors.AsType[*upstream.Unavailable](a.err); ok && down.Code == "AUTHENTICATIONFAILED" {
			about = append(about, "help", "the backend refuses the master user: correct backend_login's username and password_file, or the master user on the backend")
		}
	}
	p.log().Error("login impossible", about...)
	return p.refused(ctx, a, auth.ReasonUnavailable, "NO [UNAVAILABLE] The mail server is temporarily unavailable, please try again later")
}

func (p *preLogin) refused(ctx context.Context, a attempt, why auth.Reason, answer string) error {
	p.record(ctx, a, why)
	p.attempts++
	return p.say(a.told() + a.tag + " " + answer + "\r\n")
}

// overLimit answers right credentials of a user for whom a limit is reached.
func (p *preLogin) overLimit(ctx context.Context, a attempt, limit string) error {
	a.err = errors.New("over limits." + limit)
	p.env.Telemetry.Refused(limit)
	text := "NO [LIMIT] Too many sessions of this user"
	if limit != "per_user" {
		text = "NO [LIMIT] Too many sessions"
	}
	return p.refused(ctx, a, auth.ReasonLimit, text)
}

// cleartext answers a login on a connection that doesn't allow passwords in the clear (RFC 9051 §6.2.3). If
// the password was sent, it isn't read.
func (p *preLogin) cleartext(ctx context.Context, tag, mechanism string) error {
	p.attempts++
	p.failureLine(ctx, attempt{mechanism: mechanism}, auth.ReasonCleartext)
	return p.say(tag + " NO [PRIVACYREQUIRED] Login needs TLS\r\n")
}

// record reports a failed login to metrics, trace and log.
func (p *preLogin) record(ctx context.Context, a attempt, why auth.Reason) {
	if a.err == nil {
		a.err = errors.New(string(why))
	}
	if why == auth.ReasonUnavailable {
		if down := routing.DownBackend(a.err); down != "" {
			a.backend = down
		}
		// Proxies that agree say by ErrNotAgreed, too, that no backend is up.
		if a.backend != "" || errors.Is(a.err, routing.ErrNoBackend) || errors.Is(a.err, routing.ErrNotAgreed) {
			p.env.Telemetry.LoginRefusedFor(a.backend)
		}
	}
	a.report(false, why)
	p.env.Registry.failures.note(a.user, Failure{Time: p.env.Now(), What: "login", Reason: string(why), Client: p.addr.String(), Backend: a.backend, Error: a.err.Error()})
	kept := a.trace.End(a.user, a.backend, string(why), a.err)
	p.env.Telemetry.Login(a.mechanism, a.source, string(why), p.env.Now().Sub(a.begun), kept)
	p.failureLine(ctx, a, why)
}

func (p *preLogin) failureLine(ctx context.Context, a attempt, why auth.Reason) {
	p.env.Telemetry.LoginFailure(string(why))
	log := p.env.Telemetry.SessionLogger(p.Session.id, a.trace.Kept())
	auth.LogFailure(ctx, log, auth.Failure{Client: p.addr, User: a.user, Mechanism: a.mechanism, Reason: why})
}

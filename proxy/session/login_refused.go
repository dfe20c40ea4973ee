package session

import (
	"context"
	"errors"
	"strings"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
)

// notAttached answers a login that no backend took.
func (p *preLogin) notAttached(ctx context.Context, a attempt, err error) error {
	var refused *upstream.Refused
	mode := upstream.ModeUser
	own := a.given.own() != ""
	if a.proof == upstream.Verified && !own {
		mode = p.set.Login.Mode
	}
	words, alerts := upstream.ForUser(err, mode, p.secure.Load())
	if errors.As(err, &refused) && !own { // else the client's password was right
		a.words, a.alerts = words, alerts
		return p.failed(ctx, a, auth.ReasonBackendRefused)
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

// told has the client see the alerts that came with a refusal (RFC 9051 §7.1).
func (a *attempt) told() string {
	var b strings.Builder
	for _, text := range a.alerts[:min(len(a.alerts), maxAlerts)] {
		b.WriteString("* OK [ALERT] " + text + "\r\n")
	}
	return b.String()
}

// maxAlerts bounds how many alerts of one login are passed on.
const maxAlerts = 5

// contextEnd is the end that the context's end means.
func contextEnd(p *preLogin) error {
	switch {
	case p.env.Draining():
		return &endError{reason: ReasonShutdown}
	case p.evicted.Load():
		return &endError{reason: ReasonLimit}
	}
	return &endError{reason: ReasonLoginTimeout}
}

// failed answers wrong credentials, after a delay that makes guessing slow.
func (p *preLogin) failed(ctx context.Context, a attempt, why auth.Reason) error {
	p.record(ctx, a, why)
	p.attempts++
	select {
	case <-time.After(max(p.set.Limits.AuthFailureDelay, a.wait)):
	case <-ctx.Done():
		return contextEnd(p)
	}
	if errors.Is(a.err, auth.ErrAuthzid) {
		return p.say(a.tag + " NO [AUTHORIZATIONFAILED] Not allowed to act as another user\r\n")
	}
	if a.words == "" {
		a.words = "[AUTHENTICATIONFAILED] Authentication failed"
	}
	return p.say(a.told() + a.tag + " NO " + a.words + "\r\n")
}

// unavailable answers when nobody can tell, or no backend is there: never as if
// the credentials were wrong, which would have the client ask for a new password.
func (p *preLogin) unavailable(ctx context.Context, a attempt) error {
	about := []any{"user", a.user, "error", a.err}
	var refused *upstream.Refused
	switch {
	case errors.As(a.err, &refused): // by the password that a source gave
		about = append(about, "help", "the backend refuses the password that auth "+a.source+" gives for this user: correct it there")
	case p.set.Login.Mode == upstream.ModeMaster:
		// The user's password was right, so it is the master's that isn't.
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

// overLimit answers right credentials for which there is no place.
func (p *preLogin) overLimit(ctx context.Context, a attempt, limit string) error {
	a.err = errors.New("over limits." + limit)
	p.env.Telemetry.Refused(limit)
	text := "NO [LIMIT] Too many sessions of this user"
	if limit != "per_user" {
		text = "NO [LIMIT] Too many sessions"
	}
	return p.refused(ctx, a, auth.ReasonLimit, text)
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
	p.env.Registry.failures.note(a.user, Failure{Time: p.env.Now(), What: "login", Reason: string(why), Client: p.addr.String(), Backend: a.backend, Error: a.err.Error()})
	p.env.Telemetry.Login(a.mechanism, a.source, string(why), p.env.Now().Sub(a.begun))
	_ = a.trace.End(a.user, a.backend, string(why), a.err)
	p.failureLine(ctx, a, why)
}

func (p *preLogin) failureLine(ctx context.Context, a attempt, why auth.Reason) {
	p.env.Telemetry.LoginFailure(string(why))
	log := p.env.Telemetry.SessionLogger(p.Session.id, a.trace.TraceID())
	auth.LogFailure(ctx, log, auth.Failure{Client: p.addr, User: a.user, Mechanism: a.mechanism, Reason: why})
}

package session

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"

	"imapproxy/internal/fair"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// asking completes credentials before the sources are asked about them.
func (p *preLogin) asking(creds *auth.Credentials, trace *telemetry.LoginTrace) {
	creds.Client, creds.Local, creds.TLS, creds.Attempt = p.addr.Addr(), p.local.Addr(), p.secure.Load(), p.attempts+1
	creds.Trace = trace
	creds.Known = p.env.Places.knows(fair.Network(creds.Client))
	p.asked, p.sources = p.env.Now(), auth.Version(p.set.Sources)
}

// sourceAttr is the attribute of the source that decided a login.
func sourceAttr(name string) attribute.KeyValue {
	return attribute.String("imapproxy.auth.source", name)
}

// decided does what the sources' verdict says: it logs in to a backend, or refuses the client. endAuth ends the phase of
// the login's trace in which they were asked.
func (p *preLogin) decided(ctx context.Context, a attempt, creds auth.Credentials, verdict auth.Verdict, endAuth func(error, ...attribute.KeyValue)) (done bool, err error) {
	placement := ""
	login := p.set.Login
	if login.User = creds.User; !auth.NoPassword(a.mechanism) {
		login.Password = creds.Password
	}
	switch v := verdict.(type) {
	case auth.Accepted:
		placement = v.Placement
		a.accepted(v, &login)
		if auth.NoPassword(a.mechanism) && login.Mode != upstream.ModeMaster && v.Password == "" {
			a.err = errNoMaster
			endAuth(a.err, sourceAttr(a.source))
			return false, p.unavailable(ctx, a)
		}
		endAuth(nil, sourceAttr(a.source))
	case auth.AskBackend:
		login.Mode = upstream.ModeUser // only the backend can check the password, or the token
		if auth.OfToken(a.mechanism) {
			login.Mechanism, login.Password = a.mechanism, creds.Password
		}
		endAuth(nil, sourceAttr(a.source))
	case auth.Rejected:
		a.err, a.wait = errors.New(string(v.Reason)), v.Wait
		if v.Reason == auth.ReasonBadAuthzid {
			a.err = auth.ErrAuthzid
		}
		endAuth(a.err, sourceAttr(a.source))
		return false, p.failed(ctx, a, v.Reason)
	case auth.Unavailable:
		a.err = v.Err
		endAuth(a.err, sourceAttr(a.source))
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
		if ok, err := p.policyAfter(ctx, &a, login.User); !ok {
			return false, err
		}
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
		if ok, err := p.policyAfter(ctx, &a, login.User); !ok {
			p.detach()
			p.backend.Store(nil)
			return false, err
		}
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
var errNoMaster = errors.New("a client that logged in with a token, by SCRAM or by a certificate has no password for the backend: backend_login { mode = \"master\" } is needed")

// succeeded records a successful login.
func (p *preLogin) succeeded(a attempt) {
	a.guess.Right(p.env.Now())
	a.report(true, "")
	p.shaken.LoggedIn()
	p.env.Places.loggedIn(fair.Network(p.addr.Addr()))
	if p.addr != p.peer {
		p.env.Places.loggedIn(fair.Network(p.peer.Addr())) // it has a place among those that haven't logged in
	}
	link := a.trace.End(a.user, a.backend, "ok", nil)
	if link.IsSampled() {
		p.link = new(link)
	}
	p.env.Telemetry.Login(a.mechanism, a.source, "ok", p.env.Now().Sub(a.begun), link)
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

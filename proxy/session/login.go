package session

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"imapproxy/internal/fair"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/wire"
)

// prelogin serves a session until its login.
func (s *Session) prelogin(ctx context.Context) phase {
	p := &preLogin{Session: s, direct: s.local}
	ctx, cancel := context.WithDeadline(ctx, s.started.Add(s.set.Limits.PreloginTimeout))
	defer cancel()
	known := s.env.Places.knows(fair.Network(s.addr.Addr()))
	place, evicted := s.env.Places.clients.Take(s.addr.Addr(), known, s.set.Limits.prelogin(s.env.Registry.Proved(), s.set.Dialer.Open()), func() {
		p.evicted.Store(true)
		cancel()
	})
	for range evicted {
		s.env.Telemetry.Refused("prelogin")
	}
	p.place = place
	defer s.env.Places.clients.Leave(place)
	unblock := s.client.Until(ctx) // ctx ends if the server stops, the time is up, or the place is taken
	err := p.converse(ctx)
	p.noLongerLarge()
	if unblock() && err == nil {
		err = contextEnd(p)
		p.forgetLogin()
	}
	if err != nil {
		p.finish(ctx, err)
		return phaseEnd
	}
	p.handOver()
	return phaseRelay
}

// converse answers the client's commands until the client has logged in (nil) or the session ends.
func (p *preLogin) converse(ctx context.Context) error {
	if p.lis.TLS == TLSImplicit {
		if err := p.handshake(ctx); err != nil {
			return err
		}
	}
	p.newReader()
	if err := p.say("* OK [CAPABILITY " + p.capabilities() + "] " + p.set.Hostname + " ready\r\n"); err != nil {
		return err
	}
	for {
		done, err := p.command(ctx)
		if done || err != nil {
			return err
		}
		p.noLongerLarge()
		switch {
		case p.attempts >= maxAttempts:
			return &endError{reason: ReasonAttempts}
		case p.bads >= maxBad:
			return &endError{reason: ReasonAttempts, say: "* BYE [CLIENTBUG] Too many invalid commands\r\n"}
		}
	}
}

// command reads and answers one command (RFC 9051 §6.1, §6.2). done says that the client is logged in.
func (p *preLogin) command(ctx context.Context) (done bool, err error) {
	unit, err := p.r.Unit(p.agree, true)
	if errors.Is(err, errCleartext) {
		h := wire.ParseCommandHead(wire.FirstLine(unit))
		return p.loginCommand(ctx, string(h.Tag), nil)
	}
	if err != nil {
		return false, p.unreadable(unit, err)
	}
	p.commanded = p.env.Now()
	p.seen(p.commanded)
	if len(unit) == 0 {
		return false, nil // some clients send an empty line after a literal
	}
	h := wire.ParseCommandHead(unit)
	if !wire.ValidTag(h.Tag) {
		clear(unit) // it may contain a password, as may a unit with an unknown verb
		return false, p.bad("*", "Expected a tag and a command")
	}
	tag := string(h.Tag)
	if !h.OK {
		clear(unit)
		return false, p.bad(tag, "Expected a command behind the tag")
	}
	switch h.Verb {
	case wire.Capability:
		return false, p.say("* CAPABILITY " + p.capabilities() + "\r\n" + tag + " OK Capability completed\r\n")
	case wire.Noop:
		return false, p.say(tag + " OK Noop completed\r\n")
	case wire.Logout:
		_ = p.say("* BYE Logging out\r\n" + tag + " OK Logout completed\r\n")
		return false, &endError{reason: ReasonLogout}
	case wire.ID:
		return false, p.id(tag, h.Args)
	case wire.StartTLS:
		return false, p.startTLS(ctx, tag, h.Args)
	case wire.Login:
		return p.loginCommand(ctx, tag, h.Args)
	case wire.Authenticate:
		return p.authenticate(ctx, tag, h.Args)
	case wire.Other:
		clear(unit)
		return false, p.bad(tag, "Unknown command")
	}
	return false, p.bad(tag, "Log in first")
}

// newReader starts reading the client's commands from the current connection state.
func (p *preLogin) newReader() {
	p.r = wire.NewReader(p.client, maxPreLine, maxPreLiteral)
	p.r.Strict()
	p.r.Larger(p.mayBeLarge)
}

// errCleartext says that the client is about to send a password that isn't wanted: in the clear, or where there
// are no passwords.
var errCleartext = errors.New("login without TLS")

// agree sends "+" for a literal, unless it is LOGIN's and passwords aren't allowed: the login is
// then refused before the password is sent.
func (p *preLogin) agree(sofar []byte) error {
	h := wire.ParseCommandHead(wire.FirstLine(sofar))
	if h.Verb == wire.Login && wire.ValidTag(h.Tag) && (!p.mayLogin() || !p.offers(auth.MechanismPlain)) {
		return errCleartext
	}
	return p.say("+ OK\r\n")
}

// errHandshakes says that a network has begun too many TLS handshakes.
var errHandshakes = errors.New("too many TLS handshakes of its network without a login")

// MayHandshake counts a TLS handshake of a client, unless there must not be one.
func (e *Env) MayHandshake(l *Listener, client netip.Addr) (one *guessing.Handshake, ok bool) {
	one, ok, told := e.Handshakes.Begin(e.Now(), e.Settings().Handshakes, client, e.Places.knows(fair.Network(client)))
	if told {
		e.Telemetry.Log.Warn("TLS handshakes refused", "client", client.String(), "listener", l.Name, "error", errHandshakes, "limit", "limits.tls_handshakes")
	}
	return one, ok
}

// handshake starts TLS on the client's connection.
func (p *preLogin) handshake(ctx context.Context) error {
	start := p.env.Now()
	one, ok := p.env.MayHandshake(p.lis, p.peer.Addr())
	if !ok {
		p.env.Telemetry.Refused("tls_handshakes")
		return &endError{reason: ReasonTLS, cause: errHandshakes}
	}
	p.shaken = one
	err := p.client.Server(ctx, p.lis.Settings().TLS)
	outcome := "ok"
	if err != nil {
		outcome = "failed"
		if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			outcome = "timeout"
		}
	}
	p.env.Telemetry.TLSHandshake(p.Session.id, outcome, start, p.env.Now())
	if err != nil {
		return &endError{reason: ReasonTLS, cause: err}
	}
	p.secure.Store(true)
	return nil
}

// startTLS answers STARTTLS (RFC 9051 §6.2.1). Bytes that arrived after the command and before TLS may have
// been injected by an attacker: they are never executed, and the connection ends.
func (p *preLogin) startTLS(ctx context.Context, tag string, args []byte) error {
	switch {
	case len(args) > 0:
		return p.bad(tag, "STARTTLS takes no arguments")
	case p.secure.Load():
		return p.bad(tag, "Already under TLS")
	case p.lis.TLS != TLSStartTLS:
		return p.bad(tag, "STARTTLS is not available here")
	case p.r.HasBuffered():
		_ = p.say(tag + " BAD Nothing may follow STARTTLS before TLS has begun\r\n")
		return &endError{reason: ReasonClientProtocol, say: "* BYE [CLIENTBUG] Protocol error: data behind STARTTLS\r\n"}
	}
	if err := p.say(tag + " OK Begin TLS\r\n"); err != nil {
		return err
	}
	if err := p.handshake(ctx); err != nil {
		return err
	}
	p.newReader()
	p.ttl = 0 // RFC 9051 §6.2.1: what the client sent in the clear is forgotten
	p.speaksForItself()
	return nil
}

// finish ends a session before its relay.
func (p *preLogin) finish(ctx context.Context, err error) {
	var end *endError
	if !errors.As(p.broken(err), &end) {
		end = &endError{reason: ReasonClientLost, cause: err}
	}
	if end.say == "" && end.reason != ReasonTLS {
		end.say = end.reason.Bye()
	}
	p.setReason(end.reason)
	if end.say != "" {
		_, _ = p.client.WriteUntil([]byte(end.say), p.env.Now().Add(farewellIn))
	}
	switch end.reason {
	case ReasonClientClosed, ReasonClientLost, ReasonTLS:
	default:
		if p.client.CloseWrite() == nil && ctx.Err() == nil { // an evicted client gets no lingering
			stop := p.client.Until(ctx)
			p.client.Discard(p.env.Now().Add(lingerFor))
			stop()
		}
	}
	level := slog.LevelDebug
	if end.reason == ReasonAttempts || end.reason == ReasonClientProtocol {
		level = slog.LevelInfo
	}
	about := []any{"reason", end.reason, "listener", p.lis.Name, "duration", p.env.Now().Sub(p.started).Round(time.Millisecond)}
	if end.cause != nil {
		about = append(about, "error", end.cause)
	}
	p.log().Log(ctx, level, "session ended before login", about...)
}

// capabilities returns the capability list before login (RFC 9051 §6.1.1): what the proxy itself can do, and what all backends have to which a
// login may go. The backend's own list comes with the login's OK.
func (p *preLogin) capabilities() string {
	caps := slices.Insert([]string{"IMAP4rev1", "SASL-IR", "ID"}, 1, p.env.Capabilities.common(p.set.Router)...)
	if !p.secure.Load() && p.lis.TLS == TLSStartTLS {
		caps = append(caps, "STARTTLS")
	}
	if !p.mayLogin() {
		return strings.Join(append(caps, "LOGINDISABLED"), " ")
	}
	offered := p.offered()
	for _, m := range offered {
		caps = append(caps, "AUTH="+m)
	}
	if !slices.Contains(offered, auth.MechanismPlain) {
		caps = append(caps, "LOGINDISABLED")
	}
	return strings.Join(caps, " ")
}

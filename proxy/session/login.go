package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"imapproxy/internal/fair"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/wire"
)

// Bounds before login, when no client has shown yet who it is. RFC 2683 §3.2.1.5
// has servers take lines of 8,000 octets; passwords and tokens may have 8 KiB, in PLAIN
// on one line in base64.
const (
	maxPreLine    = 12 << 10
	maxPreLiteral = 8 << 10
	// maxAttempts is how many failed logins a connection has, and maxBad how many
	// commands that can't be taken, as Dovecot's.
	maxAttempts = 10
	maxBad      = 3
	// largeFactor is how much larger an ID may be than other commands: RFC 2971 §3.3 allows
	// 30 fields with values of 1,024 octets. As many as largeAtATime are read at a time,
	// largeOfNetwork of one network.
	largeFactor    = 4
	largeAtATime   = 128
	largeOfNetwork = 8
	// farewellIn bounds the writing of a last word.
	farewellIn = 2 * time.Second
)

// preLogin is a session's time before login: its state, while only one goroutine
// has it.
type preLogin struct {
	*Session
	r        *wire.Reader
	begun    time.Time // of the login's trace: accept, or the attempt before
	loginTag string    // of the login that succeeded
	ttl      int       // how many more proxies the session may pass (ID x-proxy-ttl); 0: not said
	attempts int       // failed logins
	bads     int       // commands that couldn't be taken
	large    bool      // a slot for a large command is held
	tls      struct{ start, end time.Time }
	asked    time.Time   // when the last login began
	sources  uint64      // auth.Version then
	place    *fair.Place // among the clients that haven't logged in
	evicted  atomic.Bool // another client needs the place
}

// prelogin serves a session up to its login.
func (s *Session) prelogin(ctx context.Context) phase {
	p := &preLogin{Session: s, begun: s.started}
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
	unblock := s.client.Until(ctx) // the server stops, the time is up, or the place is gone
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

// converse answers the client until it has logged in (nil) or the session is
// over.
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
			return &endError{reason: ReasonAttempts, say: "* BYE Too many invalid commands\r\n"}
		}
	}
}

// command reads and answers one command (RFC 9051 §6.1, §6.2). done means that
// the client is logged in.
func (p *preLogin) command(ctx context.Context) (done bool, err error) {
	unit, err := p.r.Unit(p.agree, true)
	if errors.Is(err, errCleartext) {
		h := wire.ParseCommandHead(wire.FirstLine(unit))
		return false, p.cleartext(ctx, string(h.Tag), auth.MechanismCommand)
	}
	if err != nil {
		return false, p.unreadable(unit, err)
	}
	p.seen(p.env.Now())
	if len(unit) == 0 {
		return false, nil // an empty line, as some clients send behind a literal
	}
	h := wire.ParseCommandHead(unit)
	if !wire.ValidTag(h.Tag) {
		clear(unit) // a password may be in it, here and where the verb is no command
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

// newReader reads the client's commands from here on.
func (p *preLogin) newReader() {
	p.r = wire.NewReader(p.client, maxPreLine, maxPreLiteral)
	p.r.Strict()
	p.r.Larger(p.mayBeLarge)
}

// mayBeLarge is by how much a command may be larger than others: an ID, where there is a
// slot for it.
func (p *preLogin) mayBeLarge(sofar []byte) int {
	if h := wire.ParseCommandHead(wire.FirstLine(sofar)); h.Verb != wire.ID {
		return 1
	}
	p.large = p.large || p.env.Places.large.TryAcquire(fair.Network(p.addr.Addr()))
	if !p.large {
		return 1
	}
	return largeFactor
}

// noLongerLarge gives the slot back.
func (p *preLogin) noLongerLarge() {
	if p.large {
		p.large = false
		p.env.Places.large.Release(fair.Network(p.addr.Addr()))
	}
}

// errCleartext: a password was about to come in the clear.
var errCleartext = errors.New("login without TLS")

// agree asks for a literal, unless it is LOGIN's where passwords may not come:
// better refused before it is on the wire.
func (p *preLogin) agree(sofar []byte) error {
	if h := wire.ParseCommandHead(wire.FirstLine(sofar)); h.Verb == wire.Login && wire.ValidTag(h.Tag) && !p.mayLogin() {
		return errCleartext
	}
	return p.say("+ OK\r\n")
}

// bad answers a command that can't be taken, and counts it.
func (p *preLogin) bad(tag, text string) error {
	p.bads++
	return p.say(tag + " BAD " + text + "\r\n")
}

// unreadable turns what the Reader refuses into an answer, or an end.
func (p *preLogin) unreadable(unit []byte, err error) error {
	var lit *wire.LiteralError
	switch {
	case errors.As(err, &lit) && lit.Sync:
		// Nothing was agreed to, so nothing follows: the connection is in step.
		p.bads++
		tag := "*"
		if h := wire.ParseCommandHead(wire.FirstLine(unit)); wire.ValidTag(h.Tag) {
			tag = string(h.Tag)
		}
		return p.say(fmt.Sprintf("%s BAD [TOOBIG] Literals before login have at most %d bytes\r\n", tag, maxPreLiteral))
	case errors.As(err, &lit):
		return &endError{reason: ReasonClientProtocol, say: "* BYE [TOOBIG] Literal too long before login\r\n", cause: err}
	case errors.Is(err, wire.ErrLineTooLong):
		return &endError{reason: ReasonClientProtocol, say: "* BYE Command line too long\r\n", cause: err}
	case errors.Is(err, wire.ErrNUL):
		return &endError{reason: ReasonClientProtocol, say: "* BYE NUL isn't allowed in a command\r\n", cause: err}
	}
	return p.broken(err)
}

// broken is the end that an error of the client's connection means.
func (p *preLogin) broken(err error) error {
	var end *endError
	switch {
	case errors.As(err, &end):
		return err
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return &endError{reason: ReasonClientClosed}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return contextEnd(p)
	}
	return &endError{reason: ReasonClientLost, cause: err}
}

// say writes to the client.
func (p *preLogin) say(line string) error {
	if _, err := p.client.Write([]byte(line)); err != nil {
		return p.broken(err)
	}
	return nil
}

// handshake puts the connection under TLS.
func (p *preLogin) handshake(ctx context.Context) error {
	p.tls.start = p.env.Now()
	err := p.client.Server(ctx, p.lis.Settings().TLS)
	p.tls.end = p.env.Now()
	outcome := "ok"
	if err != nil {
		outcome = "failed"
		if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			outcome = "timeout"
		}
	}
	p.env.Telemetry.TLSHandshake(outcome, p.tls.end.Sub(p.tls.start))
	if err != nil {
		return &endError{reason: ReasonTLS, cause: err}
	}
	p.secure.Store(true)
	return nil
}

// startTLS is RFC 9051 §6.2.1. What the client sent behind the command, before
// TLS, may have been put there by somebody else: it is never executed, and the
// connection ends.
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
		return &endError{reason: ReasonClientProtocol, say: "* BYE Protocol error: data behind STARTTLS\r\n"}
	}
	if err := p.say(tag + " OK Begin TLS\r\n"); err != nil {
		return err
	}
	if err := p.handshake(ctx); err != nil {
		return err
	}
	p.newReader()
	p.ttl = 0 // RFC 9051 §6.2.1: what was said in the clear is forgotten
	return nil
}

// finish ends a session that has no relay.
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
		if p.client.CloseWrite() == nil && ctx.Err() == nil { // who was evicted isn't waited for
			stop := p.client.Until(ctx)
			p.client.Discard(p.env.Now().Add(lingerFor))
			stop()
		}
	}
	level := slog.LevelDebug
	if end.reason == ReasonAttempts || end.reason == ReasonClientProtocol {
		level = slog.LevelInfo
	}
	about := []any{"reason", end.reason}
	if end.cause != nil {
		about = append(about, "error", end.cause)
	}
	p.log().Log(ctx, level, "session ended before login", about...)
}

// capabilities is the list before login (RFC 9051 §6.1.1): what the proxy itself
// can do. The backend's comes with the login's OK.
func (p *preLogin) capabilities() string {
	caps := []string{"IMAP4rev1", "SASL-IR", "ID"}
	if l := p.env.Capabilities.literals(); l != "" {
		caps = slices.Insert(caps, 1, l)
	}
	if !p.secure.Load() && p.lis.TLS == TLSStartTLS {
		caps = append(caps, "STARTTLS")
	}
	if !p.mayLogin() {
		return strings.Join(append(caps, "LOGINDISABLED"), " ")
	}
	for _, m := range mechanisms {
		caps = append(caps, "AUTH="+m)
	}
	return strings.Join(caps, " ")
}

// mayLogin says whether passwords may come over the connection as it is.
func (p *preLogin) mayLogin() bool {
	return p.secure.Load() || p.lis.mayLogin(p.addr.Addr())
}

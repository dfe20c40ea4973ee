package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"imapproxy/proxy/wire"
)

// talk takes a connected socket to a logged-in Conn.
func (d *Dialer) talk(ctx context.Context, s *dialogue, t Target, a Auth, c Client) (*Conn, error) {
	if err := d.open(ctx, s, t, c); err != nil {
		return nil, err
	}
	if err := s.askCaps(); err != nil {
		return nil, atStage(StageCapability, err)
	}
	resp, err := s.login(idCommand(d.opt.Hostname, c), a)
	switch {
	case errors.Is(err, errTooLong) && a.Mode != ModeMaster:
		return nil, &Refused{Backend: t.shown(), Text: "a password longer than it takes"}
	case errors.Is(err, errCannot), errors.Is(err, errTooLong): // nothing was sent
		return nil, atStage(StageLogin, err)
	case err != nil:
		return nil, afterLogin(StageLogin, err)
	}
	switch resp.Status {
	case "OK":
	case "NO":
		said := s.plain(resp)
		if classify(a.Mode, resp.Code) == wrongCredentials && !saysLimit(resp.Code, said.text) {
			return nil, &Refused{Backend: t.shown(), Code: said.code, Text: said.text, args: said.args, alerts: said.alerts}
		}
		return nil, afterLogin(StageLogin, &answerError{answer: said, err: errNo})
	case "BAD":
		return nil, afterLogin(StageLogin, &answerError{answer: s.plain(resp), err: errBad})
	default:
		return nil, afterLogin(StageLogin, fmt.Errorf("%w: a tagged answer without OK, NO or BAD", ErrProtocol))
	}
	okLine := bytes.Clone(resp.Line)
	if err := s.settle(resp); err != nil {
		return nil, afterLogin(StageCapability, err)
	}

	// What the OK says besides the capabilities is the client's to see: an
	// alert as an untagged response of its own, the text with the client's OK.
	out := &Conn{Conn: s.c, Caps: s.caps, Target: t, LoginText: cleanText(resp.Text), Untagged: s.untagged}
	switch resp.Code {
	case "", "CAPABILITY", "REFERRAL":
	default:
		_, rest, _ := bytes.Cut(okLine, []byte(" "))
		out.Untagged = append(out.Untagged, append([]byte("* "), rest...))
	}
	s.c.Unread(s.r.Buffered())
	return out, nil
}

// open makes the connection secure, as the target has it, and reads the
// greeting.
func (d *Dialer) open(ctx context.Context, s *dialogue, t Target, c Client) error {
	if t.TLS == TLSImplicit {
		if err := d.phaseTLS(ctx, s, t, c, d.handshake); err != nil {
			return atStage(StageTLS, err)
		}
	}
	if err := s.greeting(); err != nil {
		return atStage(StageGreeting, err)
	}
	if t.TLS == TLSStartTLS {
		if err := d.phaseTLS(ctx, s, t, c, d.startTLS); err != nil {
			return atStage(StageTLS, err)
		}
	}
	return nil
}

// greeting reads the first line. RFC 9051 §7.1.
//
// PREAUTH is never accepted: the backend then takes the connection for a user
// whom the proxy didn't choose, and everybody would get his mail. It also is how
// a man in the middle would skip STARTTLS.
func (s *dialogue) greeting() error {
	resp, err := s.next()
	switch {
	case err != nil:
		return err
	case resp.Tag != "*" || resp.Status == "":
		return fmt.Errorf("%w: this is no IMAP greeting", ErrProtocol)
	case resp.Status == "PREAUTH":
		return &answerError{answer: s.plain(resp), err: errors.New("PREAUTH: it has logged somebody in by itself")}
	case resp.Status != "OK":
		return &answerError{answer: s.plain(resp), err: fmt.Errorf("%w: the greeting isn't OK", ErrProtocol)}
	}
	s.take(resp)
	return nil
}

func (d *Dialer) phaseTLS(ctx context.Context, s *dialogue, t Target, c Client, secure func(context.Context, *dialogue, Target) error) error {
	start := d.opt.Now()
	err := secure(ctx, s, t)
	if c.Observe != nil {
		c.Observe(PhaseTLS, start, d.opt.Now(), err)
	}
	return err
}

// startTLS is RFC 9051 §6.2.1. A backend that doesn't list STARTTLS (or whose
// list somebody on the way has cleaned of it) isn't talked to any further:
// never in the clear what was to be secret. Where the greeting has no list the
// command is sent without asking for one; it would be void afterwards.
//
// Nothing is sent behind STARTTLS before the handshake, and nothing may have
// come behind its OK: it was said in the clear by who knows whom and would be
// believed as said under TLS.
func (d *Dialer) startTLS(ctx context.Context, s *dialogue, t Target) error {
	if s.caps != nil && !s.caps.Has("STARTTLS") {
		return fmt.Errorf("%w: it doesn't offer STARTTLS", errCannot)
	}
	tag := s.command("STARTTLS\r\n")
	if err := s.flush(); err != nil {
		return err
	}
	resp, err := s.answer(tag, false)
	if err != nil {
		return err
	}
	if resp.Status != "OK" {
		return &answerError{answer: s.plain(resp), err: errors.New("STARTTLS refused")}
	}
	if s.r.HasBuffered() {
		return ErrInjection
	}
	return d.handshake(ctx, s, t)
}

// handshake makes the connection a TLS one and forgets what was said before.
func (d *Dialer) handshake(ctx context.Context, s *dialogue, t Target) error {
	if err := s.c.Client(ctx, d.tls.forTarget(t)); err != nil {
		return err
	}
	s.r = wire.NewReader(s.c, maxLine, maxLiteral)
	s.caps = nil
	return nil
}

package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// logIn logs in on a connected socket. hostname is the proxy's.
func (l *loginClient) logIn(ctx context.Context, hostname string, a Auth) (*Conn, error) {
	if err := l.open(ctx); err != nil {
		return nil, err
	}
	if err := l.askCaps(); err != nil {
		return nil, atStage(StageCapability, err)
	}
	if l.client.Listed != nil {
		l.client.Listed(l.caps)
	}
	resp, err := l.login(idCommand(hostname, l.client), a)
	switch {
	case errors.Is(err, errTooLong) && a.Mode != ModeMaster:
		return nil, &Refused{Backend: l.target.shown(), Text: "a password longer than it takes"}
	case errors.Is(err, errCannot), errors.Is(err, errTooLong): // nothing was sent
		return nil, atStage(StageLogin, err)
	case err != nil:
		return nil, afterLogin(StageLogin, err)
	}
	switch resp.Status {
	case "OK":
	case "NO":
		said := l.plain(resp)
		if blamesUser(a.Mode, resp.Code, said.text) {
			return nil, &Refused{Backend: l.target.shown(), Code: said.code, Text: said.text, args: said.args, alerts: said.alerts, Challenge: l.challenge}
		}
		return nil, afterLogin(StageLogin, &answerError{answer: said, err: errNo})
	case "BAD":
		return nil, afterLogin(StageLogin, &answerError{answer: l.plain(resp), err: errBad})
	default:
		return nil, afterLogin(StageLogin, fmt.Errorf("%w: a tagged answer without OK, NO or BAD", ErrProtocol))
	}
	okLine := bytes.Clone(resp.Line)
	if err := l.settle(resp); err != nil {
		return nil, afterLogin(StageCapability, err)
	}

	// The rest of the OK is for the client: an alert as an untagged response, the text with the client's OK.
	out := &Conn{Conn: l.conn, Caps: l.caps, Target: l.target, LoginText: cleanText(resp.Text), Untagged: l.untagged}
	switch resp.Code {
	case "", "CAPABILITY", "REFERRAL":
	default:
		_, rest, _ := bytes.Cut(okLine, []byte(" "))
		out.Untagged = append(out.Untagged, append([]byte("* "), rest...))
	}
	return out, l.Release()
}

// open sends the PROXY header and starts TLS if the target requires them, and reads the greeting.
func (l *loginClient) open(ctx context.Context) error {
	if l.target.SendProxy == ProxyV2 {
		if err := l.sendHeader(); err != nil {
			return atStage(StageGreeting, err)
		}
	}
	if l.target.TLS == TLSImplicit {
		if err := l.phaseTLS(ctx, l.handshake); err != nil {
			return atStage(StageTLS, err)
		}
	}
	if err := l.greeting(); err != nil {
		return atStage(StageGreeting, err)
	}
	if l.target.TLS == TLSStartTLS {
		if err := l.phaseTLS(ctx, l.startTLS); err != nil {
			return atStage(StageTLS, err)
		}
	}
	return nil
}

// greeting reads the first line. RFC 9051 §7.1.
//
// PREAUTH is never accepted: the backend then treats the connection as that of a user whom the proxy didn't
// choose, and all users would see that user's mail. PREAUTH is also how a man in the middle could prevent
// STARTTLS.
func (l *loginClient) greeting() error {
	resp, err := l.Next()
	switch {
	case err != nil:
		return l.cleaned(err)
	case resp.Tag != "*" || resp.Status == "":
		return fmt.Errorf("%w: this is no IMAP greeting", ErrProtocol)
	case resp.Status == "PREAUTH":
		return &answerError{answer: l.plain(resp), err: errors.New("PREAUTH: it has logged a user in by itself")}
	case resp.Status != "OK":
		return &answerError{answer: l.plain(resp), err: fmt.Errorf("%w: the greeting isn't OK", ErrProtocol)}
	}
	l.heard(resp)
	return nil
}

// sendHeader sends the PROXY header, which precedes TLS.
func (l *loginClient) sendHeader() error {
	b, err := header(l.client)
	if err != nil {
		return err
	}
	l.headed = true
	_, err = l.conn.Write(b)
	return err
}

func (l *loginClient) phaseTLS(ctx context.Context, secure func(context.Context) error) error {
	start := l.now()
	err := secure(ctx)
	if l.client.Observe != nil {
		l.client.Observe(PhaseTLS, start, l.now(), err)
	}
	return err
}

// startTLS is RFC 9051 §6.2.1. If a backend doesn't list STARTTLS (an attacker may have removed it from the
// list), there is no login: secrets are never sent in the clear. If the greeting has no list, the command is
// sent without requesting one, which would be invalid afterwards.
//
// Nothing is sent after STARTTLS before the handshake, and no bytes may follow its OK (ErrInjection): an
// attacker may have inserted them in the clear, and they would be taken for data under TLS.
func (l *loginClient) startTLS(ctx context.Context) error {
	if l.caps != nil && !l.caps.Has("STARTTLS") {
		return fmt.Errorf("%w: it doesn't offer STARTTLS", errCannot)
	}
	resp, err := l.command("STARTTLS\r\n")
	if err != nil {
		return err
	}
	if resp.Status != "OK" {
		return &answerError{answer: l.plain(resp), err: errors.New("STARTTLS refused")}
	}
	return l.handshake(ctx)
}

// handshake starts TLS and discards earlier capabilities.
func (l *loginClient) handshake(ctx context.Context) error {
	if err := l.StartTLS(ctx, l.tls.forTarget(l.target)); err != nil {
		return err
	}
	l.caps = nil
	return nil
}

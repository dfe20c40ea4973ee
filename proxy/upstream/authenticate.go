package upstream

import (
	"encoding/base64"
	"fmt"

	"imapproxy/proxy/wire"
)

// maxInitial is the length of the longest command line with an initial response. RFC 2683 §3.2.1.5 asks
// clients to stay below about 1,000 octets; Dovecot's login process has a buffer of 4 KiB. A longer response
// is sent after the challenge.
const maxInitial = 1000

// maxLiteralMinus is the largest non-synchronising literal that LITERAL- allows. RFC 7888 §5.
const maxLiteralMinus = 4096

// maxDovecotResponse is the length of the longest response line that Dovecot's login processes accept (a
// buffer of 8 KiB); they close the connection after a longer one. LOGIN accepts less: a literal of about
// 1,000 octets.
const maxDovecotResponse = 8184

// login sends ID, if the backend supports it, and the login, in one write as far as no continuation request
// is needed, and returns the tagged answer. Nothing is sent after AUTHENTICATE or LOGIN before its answer:
// Cyrus drops it.
func (l *loginClient) login(id string, a Auth) (wire.Response, error) {
	if id != "" && l.caps.Has("ID") {
		l.IgnoreAnswer(l.Queue(id))
	}
	caps := l.caps
	l.caps, l.keep = nil, true // the OK of the login has the valid ones
	l.patience.heard(a.Mode != ModeMaster)

	if caps.Has("AUTH=PLAIN") {
		return l.authenticatePlain(a, caps)
	}
	if a.Mode == ModeMaster {
		return wire.Response{}, fmt.Errorf("%w: a master login needs AUTH=PLAIN, which it doesn't offer", errCannot)
	}
	if caps.Has("LOGINDISABLED") {
		return wire.Response{}, fmt.Errorf("%w: LOGINDISABLED and no AUTH=PLAIN (does it want TLS?)", errCannot)
	}
	return l.plainLogin(a, caps)
}

// authenticatePlain logs in with SASL PLAIN (RFC 4616), with an initial response (RFC 4959) if the backend
// supports it and it isn't too long.
func (l *loginClient) authenticatePlain(a Auth, caps wire.Caps) (wire.Response, error) {
	authzid, authcid, password := a.identity()
	message := []byte(authzid + "\x00" + authcid + "\x00" + password.Reveal())
	encoded := base64.StdEncoding.AppendEncode(nil, message)
	clear(message)
	defer clear(encoded)
	line := func(out []byte) []byte { return append(append(out, encoded...), "\r\n"...) }

	if len(encoded) > maxDovecotResponse && isDovecot(caps) {
		return wire.Response{}, errTooLong
	}
	const verb = "AUTHENTICATE PLAIN"
	if (caps.Has("SASL-IR") || caps.Has("IMAP4rev2")) && len(verb)+len(encoded) < maxInitial {
		tag := l.Queue(verb + " ")
		l.Append(line)
		if err := l.Flush(); err != nil {
			return wire.Response{}, err
		}
		return l.answer(tag, false)
	}

	tag := l.Queue(verb + "\r\n")
	if err := l.Flush(); err != nil {
		return wire.Response{}, err
	}
	// PLAIN's challenge is empty; its content is ignored.
	resp, err := l.answer(tag, true)
	if err != nil || resp.Tag == tag {
		return l.early(resp, err)
	}
	l.Append(line)
	if err := l.Flush(); err != nil {
		return wire.Response{}, err
	}
	return l.answer(tag, false)
}

// isDovecot says whether the capabilities before login are Dovecot's: no other current server lists RFC
// 2221's.
func isDovecot(caps wire.Caps) bool { return caps.Has("LOGIN-REFERRALS") && caps.Has("SASL-IR") }

// plainLogin logs in with LOGIN. RFC 9051 §6.2.3. It uses quoted strings if possible; 8-bit and control
// characters are sent as literals, which are non-synchronising if the backend has LITERAL+ or LITERAL- (RFC
// 7888).
func (l *loginClient) plainLogin(a Auth, caps wire.Caps) (wire.Response, error) {
	tag := l.Queue("LOGIN")
	for _, arg := range []string{a.User, a.Password.Reveal()} {
		if wire.CanQuote(arg) {
			l.Append(func(out []byte) []byte { return wire.AppendQuoted(append(out, ' '), arg) })
			continue
		}
		wait := !caps.Has("LITERAL+") && !(caps.Has("LITERAL-") && len(arg) <= maxLiteralMinus)
		l.Append(func(out []byte) []byte { return wire.AppendLiteral(append(out, ' '), arg, wait) })
		if !wait {
			continue
		}
		if err := l.Flush(); err != nil {
			return wire.Response{}, err
		}
		resp, err := l.answer(tag, true)
		if err != nil || resp.Tag == tag {
			return l.early(resp, err)
		}
		l.Append(func(out []byte) []byte { return append(out, arg...) })
	}
	l.Append(func(out []byte) []byte { return append(out, "\r\n"...) })
	if err := l.Flush(); err != nil {
		return wire.Response{}, err
	}
	return l.answer(tag, false)
}

// early handles a tagged answer instead of a continuation request: NO and BAD are answers; OK is an error,
// since no password was sent.
func (l *loginClient) early(resp wire.Response, err error) (wire.Response, error) {
	if err == nil && resp.Status == "OK" {
		return resp, fmt.Errorf("%w: the login is OK before the credentials were sent", ErrProtocol)
	}
	return resp, err
}

// settle reads all responses that are due after a login's OK, so that no answer to a command of the proxy can
// reach the client, and obtains the capabilities.
func (l *loginClient) settle(ok wire.Response) error {
	if caps, found := capsIn(ok); found {
		l.caps = caps
	}
	if err := l.SkipAnswer(l.onUntagged); err != nil {
		return l.cleaned(err)
	}
	return l.askCaps()
}

package upstream

import (
	"encoding/base64"
	"fmt"

	"imapproxy/proxy/wire"
)

// maxLiteralMinus is the largest non-synchronising literal that LITERAL- allows. RFC 7888 §5.
const maxLiteralMinus = 4096

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

	if a.Mechanism != "" && a.Mode != ModeMaster {
		return l.authenticateToken(a, caps)
	}
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
	tag, early, err := l.sendInitial("AUTHENTICATE PLAIN", encoded, caps)
	if tag == "" {
		return early, err
	}
	return l.answer(tag, false)
}

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

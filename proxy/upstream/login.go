package upstream

import (
	"encoding/base64"
	"fmt"

	"imapproxy/proxy/wire"
)

// maxInitial is the longest command line that takes an initial response along.
// RFC 2683 §3.2.1.5 has clients stay below about 1,000 octets; Dovecot's login
// process has a buffer of 4 KiB. Longer ones go after the challenge.
const maxInitial = 1000

// maxLiteralMinus is what LITERAL- allows in a literal without waiting.
// RFC 7888 §5.
const maxLiteralMinus = 4096

// maxDovecotResponse is the longest response line that Dovecot's login processes take (a
// buffer of 8 KiB): at a longer one they close the connection. LOGIN takes less: a
// literal of about 1,000 octets.
const maxDovecotResponse = 8184

// login sends ID, where the backend has it, and the login, in one write as far
// as nothing has to be waited for, and gives the tagged answer. Nothing is ever
// sent behind AUTHENTICATE or LOGIN before its answer: Cyrus drops it.
func (d *dialogue) login(id string, a Auth) (wire.Response, error) {
	if id != "" && d.caps.Has("ID") {
		d.beside = d.command(id)
	}
	caps := d.caps
	d.caps, d.keep = nil, true // those that count come with the login's OK
	d.patience.heard(a.Mode != ModeMaster)

	if caps.Has("AUTH=PLAIN") {
		return d.authenticatePlain(a, caps)
	}
	if a.Mode == ModeMaster {
		return wire.Response{}, fmt.Errorf("%w: a master login needs AUTH=PLAIN, which it doesn't offer", errCannot)
	}
	if caps.Has("LOGINDISABLED") {
		return wire.Response{}, fmt.Errorf("%w: LOGINDISABLED and no AUTH=PLAIN (does it want TLS?)", errCannot)
	}
	return d.plainLogin(a, caps)
}

// authenticatePlain logs in with SASL PLAIN (RFC 4616), with an initial response
// (RFC 4959) where the backend takes one and it isn't too long.
func (d *dialogue) authenticatePlain(a Auth, caps wire.Caps) (wire.Response, error) {
	authzid, authcid, password := a.identity()
	message := []byte(authzid + "\x00" + authcid + "\x00" + password.Reveal())
	encoded := base64.StdEncoding.AppendEncode(nil, message)
	clear(message)
	defer clear(encoded)

	if len(encoded) > maxDovecotResponse && isDovecot(caps) {
		return wire.Response{}, errTooLong
	}
	const verb = "AUTHENTICATE PLAIN"
	if (caps.Has("SASL-IR") || caps.Has("IMAP4rev2")) && len(verb)+len(encoded) < maxInitial {
		tag := d.command(verb + " ")
		d.out = append(append(d.out, encoded...), '\r', '\n')
		if err := d.flush(); err != nil {
			return wire.Response{}, err
		}
		return d.answer(tag, false)
	}

	tag := d.command(verb + "\r\n")
	if err := d.flush(); err != nil {
		return wire.Response{}, err
	}
	// PLAIN's challenge is empty; what stands in it is of no concern.
	resp, err := d.answer(tag, true)
	if err != nil || resp.Tag == tag {
		return d.early(resp, err)
	}
	d.out = append(append(d.out, encoded...), '\r', '\n')
	if err := d.flush(); err != nil {
		return wire.Response{}, err
	}
	return d.answer(tag, false)
}

// isDovecot says whether the capabilities before login are Dovecot's: no other server of
// today lists RFC 2221's.
func isDovecot(caps wire.Caps) bool { return caps.Has("LOGIN-REFERRALS") && caps.Has("SASL-IR") }

// plainLogin logs in with LOGIN. RFC 9051 §6.2.3. Quoted strings where the
// value allows it; 8-bit and control characters go as literals, without waiting
// where the backend has LITERAL+ or LITERAL- (RFC 7888).
func (d *dialogue) plainLogin(a Auth, caps wire.Caps) (wire.Response, error) {
	tag := d.command("LOGIN")
	for _, arg := range []string{a.User, a.Password.Reveal()} {
		d.out = append(d.out, ' ')
		if wire.CanQuote(arg) {
			d.out = wire.AppendQuoted(d.out, arg)
			continue
		}
		wait := !caps.Has("LITERAL+") && !(caps.Has("LITERAL-") && len(arg) <= maxLiteralMinus)
		d.out = wire.AppendLiteral(d.out, arg, wait)
		if !wait {
			continue
		}
		if err := d.flush(); err != nil {
			return wire.Response{}, err
		}
		resp, err := d.answer(tag, true)
		if err != nil || resp.Tag == tag {
			return d.early(resp, err)
		}
		d.out = append(d.out, arg...)
	}
	d.out = append(d.out, "\r\n"...)
	if err := d.flush(); err != nil {
		return wire.Response{}, err
	}
	return d.answer(tag, false)
}

// early is for a tagged answer that came instead of a continuation request: NO
// and BAD are answers, OK can't be one, since no password was sent.
func (d *dialogue) early(resp wire.Response, err error) (wire.Response, error) {
	if err == nil && resp.Status == "OK" {
		return resp, fmt.Errorf("%w: the login is OK before the credentials were sent", ErrProtocol)
	}
	return resp, err
}

// settle reads what is still due behind a login's OK, so that no answer to a
// command of ours can reach the client, and makes sure of the capabilities.
func (d *dialogue) settle(ok wire.Response) error {
	if caps, found := capsIn(ok); found {
		d.caps = caps
	}
	for d.beside != "" {
		resp, err := d.next()
		if err != nil {
			return err
		}
		switch resp.Tag {
		case "*":
			d.take(resp)
		case d.beside:
			d.beside = ""
		default:
			return d.stray(resp)
		}
	}
	return d.askCaps()
}

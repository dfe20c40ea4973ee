package upstream

import (
	"fmt"

	"imapproxy/proxy/wire"
)

// maxInitial is the length of the longest command line with an initial response. RFC 2683 §3.2.1.5 asks
// clients to stay below about 1,000 octets; Dovecot's login process has a buffer of 4 KiB. A longer response
// is sent after the challenge.
const maxInitial = 1000

// maxDovecotResponse is the length of the longest response line that Dovecot's login processes accept (a
// buffer of 8 KiB); they close the connection after a longer one. LOGIN accepts less: a literal of about
// 1,000 octets.
const maxDovecotResponse = 8184

// sendInitial sends a mechanism's only message, in base64: with the command (RFC 4959) if the backend supports it and it isn't too long. tag
// is the command's, whose answer is due; "": early is the answer already, or there is an error.
func (l *loginClient) sendInitial(verb string, encoded []byte, caps wire.Caps) (tag string, early wire.Response, err error) {
	line := func(out []byte) []byte { return append(append(out, encoded...), "\r\n"...) }
	if len(encoded) > maxDovecotResponse && isDovecot(caps) {
		return "", early, errTooLong
	}
	if (caps.Has("SASL-IR") || caps.Has("IMAP4rev2")) && len(verb)+len(encoded) < maxInitial {
		tag = l.Queue(verb + " ")
		l.Append(line)
		if err := l.Flush(); err != nil {
			return "", early, err
		}
		return tag, early, nil
	}
	tag = l.Queue(verb + "\r\n")
	if err := l.Flush(); err != nil {
		return "", early, err
	}
	// The challenge is empty; its content is ignored.
	resp, err := l.answer(tag, true)
	if err != nil || resp.Tag == tag {
		early, err = l.early(resp, err)
		return "", early, err
	}
	l.Append(line)
	if err := l.Flush(); err != nil {
		return "", early, err
	}
	return tag, early, nil
}

// isDovecot says whether the capabilities before login are Dovecot's: no other current server lists RFC
// 2221's.
func isDovecot(caps wire.Caps) bool { return caps.Has("LOGIN-REFERRALS") && caps.Has("SASL-IR") }

// early handles a tagged answer instead of a continuation request: NO and BAD are answers; OK is an error,
// since no password was sent.
func (l *loginClient) early(resp wire.Response, err error) (wire.Response, error) {
	if err == nil && resp.Status == "OK" {
		return resp, fmt.Errorf("%w: the login is OK before the credentials were sent", ErrProtocol)
	}
	return resp, err
}

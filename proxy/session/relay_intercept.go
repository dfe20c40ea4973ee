package session

import (
	"strings"

	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// What the proxy takes over after login. The commands below would change the
// connection under the relay (its TLS, its compression, its user), and belong
// to the client's own connection, which is the proxy's. Their capabilities are
// left out of every list that the client is told (hidden), so a client that
// uses one of them regardless gets what an IMAP server without them says.

// intercept returns the answer to a command that isn't relayed, nil for all that
// are.
func intercept(h wire.CommandHead) []byte {
	var text string
	switch h.Verb {
	case wire.Login, wire.Authenticate: // RFC 9051 §6.2: only in the not authenticated state
		text = "Already logged in"
	case wire.StartTLS: // RFC 9051 §6.2.1
		text = "STARTTLS is only possible before login"
	case wire.Compress: // RFC 4978
		text = "COMPRESS is not available here"
	case wire.Unauthenticate: // RFC 8437
		text = "UNAUTHENTICATE is not available here"
	default:
		return nil
	}
	return []byte(string(h.Tag) + " BAD " + text + "\r\n")
}

// ownAnswer is the answer to a line that isn't relayed, nil for all that are. head is the line, or what
// has come of it; whole says that it is all of the command.
func ownAnswer(h wire.CommandHead, head []byte, whole bool) []byte {
	switch {
	case !wire.ValidTag(h.Tag):
		// The backend would answer it untagged, so nobody could tell when, nor
		// whether it takes what may look like a literal here for one.
		return []byte("* BAD Expected a tag and a command\r\n")
	case !h.OK:
		return []byte(string(h.Tag) + " BAD Expected a command behind the tag\r\n")
	}
	if answer := intercept(h); answer != nil {
		return answer
	}
	return track.RefusedLiteral(h, head, whole)
}

// hidden says whether a capability of the backend's isn't told to the client:
// what the proxy takes over, and referrals past the proxy (RFC 2221, RFC 2193). maddy
// lists COMPRESS without =DEFLATE.
func hidden(name string) bool {
	name = strings.ToUpper(name)
	switch name {
	case "STARTTLS", "COMPRESS", "LOGINDISABLED", "LOGIN-REFERRALS", "MAILBOX-REFERRALS", "UNAUTHENTICATE":
		return true
	}
	return strings.HasPrefix(name, "AUTH=") || strings.HasPrefix(name, "COMPRESS=")
}

package session

import (
	"strings"

	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// Commands that the proxy answers itself after login. They would change the connection under the relay (its
// TLS, its compression, its user), and concern the client's own connection, which ends at the proxy. Their
// capabilities are removed from every list that the client is sent (hidden). A client that uses one of them
// regardless gets the answer of an IMAP server without them. COMPRESS is the proxy's own where the listener has it (compress.go).

// intercept returns the answer to a command that isn't relayed, nil for a command that is.
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

// ownAnswer returns the answer to a line that isn't relayed, nil for a line that is. head is the line, or the
// part of it that has arrived; whole says that it is the whole command.
func ownAnswer(h wire.CommandHead, head []byte, whole bool) []byte {
	switch {
	case !wire.ValidTag(h.Tag):
		// The backend would answer it with an untagged response, so the proxy couldn't tell when the answer
		// has come, nor whether the backend reads a literal here.
		return []byte("* BAD Expected a tag and a command\r\n")
	case !h.OK:
		return []byte(string(h.Tag) + " BAD Expected a command behind the tag\r\n")
	}
	if answer := intercept(h); answer != nil {
		return answer
	}
	return track.RefusedLiteral(h, head, whole)
}

const compressCap = "COMPRESS=DEFLATE" // RFC 4978

// shown returns the capability list that the client is sent for a backend's.
func shown(c wire.Caps, compress bool) wire.Caps {
	c = c.Without(hidden)
	if compress {
		c = append(c, compressCap)
	}
	return c
}

// hidden says whether a capability of the backend is hidden from the client: those of the commands that the
// proxy answers itself, and referrals past the proxy (RFC 2221, RFC 2193). maddy lists COMPRESS without
// =DEFLATE.
func hidden(name string) bool {
	name = strings.ToUpper(name)
	switch name {
	case "STARTTLS", "COMPRESS", "LOGINDISABLED", "LOGIN-REFERRALS", "MAILBOX-REFERRALS", "UNAUTHENTICATE":
		return true
	}
	return strings.HasPrefix(name, "AUTH=") || strings.HasPrefix(name, "COMPRESS=")
}

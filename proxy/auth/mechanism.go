package auth

import "strings"

// The mechanisms, as they appear in Credentials, in the failure line and in metrics.
const (
	MechanismPlain = "PLAIN" // AUTHENTICATE PLAIN
	MechanismLogin = "LOGIN" // AUTHENTICATE LOGIN
	// MechanismCommand is IMAP's own LOGIN command (RFC 9051 §6.2.3).
	MechanismCommand = "LOGIN-COMMAND"
	// MechanismOAuthBearer is RFC 7628's, MechanismXOAuth2 the one that was there before it.
	MechanismOAuthBearer = "OAUTHBEARER"
	MechanismXOAuth2     = "XOAUTH2"
	// MechanismScramSHA256 is RFC 7677's, MechanismScramSHA1 RFC 5802's. With plusSuffix the client proves that its TLS
	// connection is the proxy's.
	MechanismScramSHA256     = "SCRAM-SHA-256"
	MechanismScramSHA256Plus = MechanismScramSHA256 + plusSuffix
	MechanismScramSHA1       = "SCRAM-SHA-1"
	MechanismScramSHA1Plus   = MechanismScramSHA1 + plusSuffix

	// MechanismExternal is RFC 4422's, appendix A: the client's TLS certificate says who the user is.
	MechanismExternal = "EXTERNAL"

	plusSuffix = "-PLUS"
)

// Mechanisms returns the mechanisms that there are, in the order in which a capability list names them.
func Mechanisms() []string {
	return []string{
		MechanismPlain, MechanismLogin, MechanismOAuthBearer, MechanismXOAuth2,
		MechanismScramSHA256, MechanismScramSHA256Plus, MechanismScramSHA1, MechanismScramSHA1Plus, MechanismExternal,
	}
}

// OfToken says whether a client sends a token by a mechanism, not a password: a source that compares
// passwords must never see it, and no backend may be sent it as a password.
func OfToken(mechanism string) bool {
	return mechanism == MechanismOAuthBearer || mechanism == MechanismXOAuth2
}

// OfScram says whether a mechanism is one of SCRAM, by which a client proves that it knows the password and doesn't
// send it.
func OfScram(mechanism string) bool { return strings.HasPrefix(mechanism, "SCRAM-") }

// Binds says whether a mechanism proves that the client's TLS connection is the proxy's.
func Binds(mechanism string) bool { return strings.HasSuffix(mechanism, plusSuffix) }

// NoPassword says whether a login by a mechanism leaves the proxy without a password for the backend.
func NoPassword(mechanism string) bool {
	return OfToken(mechanism) || OfScram(mechanism) || mechanism == MechanismExternal
}

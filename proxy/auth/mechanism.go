package auth

// The mechanisms, as they appear in Credentials, in the failure line and in metrics.
const (
	MechanismPlain = "PLAIN" // AUTHENTICATE PLAIN
	MechanismLogin = "LOGIN" // AUTHENTICATE LOGIN
	// MechanismCommand is IMAP's own LOGIN command (RFC 9051 §6.2.3).
	MechanismCommand = "LOGIN-COMMAND"
	// MechanismOAuthBearer is RFC 7628's, MechanismXOAuth2 the one that was there before it.
	MechanismOAuthBearer = "OAUTHBEARER"
	MechanismXOAuth2     = "XOAUTH2"
)

// OfToken says whether a client sends a token by a mechanism, not a password: a source that compares
// passwords must never see it, and no backend may be sent it as a password.
func OfToken(mechanism string) bool {
	return mechanism == MechanismOAuthBearer || mechanism == MechanismXOAuth2
}

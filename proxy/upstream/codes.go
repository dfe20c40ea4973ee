package upstream

import "strings"

// verdict is the meaning of a NO to a login.
type verdict uint8

const (
	wrongCredentials verdict = iota // the user's mistake, or the user may not log in
	unavailable                     // not now, or not for this proxy
)

// classify returns what a tagged NO with this response code means for the login of a user with the user's own
// credentials. If it isn't clear, it is wrong credentials: that is the meaning of NO to a login (RFC 9051
// §6.2.2, §6.2.3), unknown codes have to be ignored (§7.1), and the other mistake would hide password
// guessing from the failure count.
//
// In mode master the verdict is never wrong credentials: the password that was sent is the proxy's own, and
// the user's was checked just before. There AUTHENTICATIONFAILED means that the master's credentials are
// wrong, and AUTHORIZATIONFAILED either that the master may not act for users or that the user is unknown to
// this backend; Dovecot sends the same for both. In either case the user can't change it, and a client that
// is told that its password is wrong stops trying.
func classify(mode, code string) verdict {
	if mode == ModeMaster {
		return unavailable
	}
	// A switch, not a map: no package state.
	switch code {
	case "", // Cyrus, Courier, Exchange: "NO Login failed."
		"AUTHENTICATIONFAILED", // RFC 5530: credentials are wrong, reason not told
		"AUTHORIZATIONFAILED",  // RFC 5530: right, but not for this identity
		"EXPIRED",              // RFC 5530: the password is too old to be used
		"NOPERM",               // RFC 5530: the user isn't allowed to (IMAP is disabled for them)
		"ALERT",                // Gmail: an application-specific password is required
		"WEBALERT":             // Gmail: log in with the browser first
		return wrongCredentials

	case "UNAVAILABLE", // RFC 5530: a subsystem is down (Dovecot's passdb, LDAP …)
		"INUSE",           // RFC 5530: the mailbox is locked by another process
		"LIMIT",           // RFC 5530: too many connections of this user; the password isn't looked at
		"SERVERBUG",       // RFC 5530
		"CORRUPTION",      // RFC 5530: the user's data can't be read
		"CONTACTADMIN",    // RFC 5530: only the administrator can help
		"PRIVACYREQUIRED", // RFC 5530: TLS is wanted on our leg: a setting of the proxy's
		"CLIENTBUG",       // RFC 5530: the proxy's, then
		"CANNOT",          // RFC 5530: never possible on this server
		"OVERQUOTA",       // RFC 5530: not about the password
		"REFERRAL":        // RFC 2221: the user lives elsewhere; clients never see referrals
		return unavailable
	}
	return wrongCredentials
}

// blamesUser says whether a tagged NO to a login means that the credentials are wrong.
func blamesUser(mode, code, text string) bool {
	return classify(mode, code) == wrongCredentials && !saysLimit(code, text) && !saysUnable(code, text)
}

// saysUnable says whether a NO without a response code means that the backend couldn't check the credentials. Cyrus sends none; the
// texts are those of the SASL library for errors of its own: saslauthd isn't there, or no memory is. For wrong
// credentials it says "authentication failure".
func saysUnable(code, text string) bool {
	if code != "" {
		return false
	}
	switch strings.TrimPrefix(text, "Login failed: ") {
	case "generic failure", "no memory available", "transient failure (e.g., weak key)", "remote authentication server unavailable":
		return true
	}
	return false
}

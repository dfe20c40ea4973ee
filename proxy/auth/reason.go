package auth

import "errors"

// Reason says why a login failed, as one word of a closed set. It is a label of metrics and a field of the
// failure line, which programs read (fail2ban), so a reason is never renamed.
type Reason string

// The reasons. docs/authentication.md lists them for operators; a test compares them.
const (
	// ReasonBadPassword: a source of the proxy knows the user, and the password is wrong.
	ReasonBadPassword Reason = "bad_password"
	// ReasonUnknownUser: no source knows the user.
	ReasonUnknownUser Reason = "unknown_user"
	// ReasonAccountDisabled: the user's entry has no usable password, or nologin.
	ReasonAccountDisabled Reason = "account_disabled"
	// ReasonBadToken: no source accepts the token, or it isn't the user's.
	ReasonBadToken Reason = "bad_token"
	// ReasonExpiredToken: the token was good, and has expired. It isn't a guess: clients try with what they have.
	ReasonExpiredToken Reason = "expired_token"
	// ReasonNoScramKeys: a login by SCRAM of a user whose stored password is in another scheme.
	ReasonNoScramKeys Reason = "no_scram_keys"
	// ReasonBadBinding: the client's TLS connection isn't the proxy's (SCRAM with -PLUS).
	ReasonBadBinding Reason = "bad_binding"
	// ReasonBadCertificate: the client's certificate isn't good, or names no user. It isn't a guess: no one can make such a
	// certificate up.
	ReasonBadCertificate Reason = "bad_certificate"
	// ReasonPolicyRefused: the policy server refuses the login. It counts as a guess, as a wrong password does: otherwise the delays
	// that follow would show which password was right.
	ReasonPolicyRefused Reason = "policy_refused"
	// ReasonBackendRefused: the backend refused the credentials.
	ReasonBackendRefused Reason = "backend_refused"
	// ReasonBadName: Names.Normalize refused the name.
	ReasonBadName Reason = "bad_name"
	// ReasonBadAuthzid: the client asked to act as another user (RFC 4616 §2).
	ReasonBadAuthzid Reason = "bad_authzid"
	// ReasonBadCredentials: the password is empty or contains NUL.
	ReasonBadCredentials Reason = "bad_credentials"
	// ReasonMalformed: bad base64, an over-long response, or a message that isn't of the mechanism.
	ReasonMalformed Reason = "malformed"
	// ReasonCancelled: the client ended the exchange with '*'.
	ReasonCancelled Reason = "cancelled"
	// ReasonBadMechanism: AUTHENTICATE with a mechanism that isn't offered.
	ReasonBadMechanism Reason = "bad_mechanism"
	// ReasonCleartext: a login without TLS where the settings require TLS.
	ReasonCleartext Reason = "cleartext"
	// ReasonLimit: a limit of the proxy (sessions of a user or an address) refused it.
	ReasonLimit Reason = "limit"
	// ReasonUnavailable: no source could check the credentials, or no backend could
	// be reached. The client is told NO [UNAVAILABLE], never AUTHENTICATIONFAILED.
	ReasonUnavailable Reason = "unavailable"
)

// Reasons returns all reasons, in the order of their documentation.
func Reasons() []Reason {
	return []Reason{
		ReasonBadPassword, ReasonUnknownUser, ReasonAccountDisabled, ReasonBadToken, ReasonBackendRefused, ReasonPolicyRefused,
		ReasonBadName, ReasonBadAuthzid, ReasonBadCredentials, ReasonMalformed,
		ReasonExpiredToken, ReasonNoScramKeys, ReasonBadBinding, ReasonBadCertificate, ReasonCancelled, ReasonBadMechanism, ReasonCleartext, ReasonLimit, ReasonUnavailable,
	}
}

// Guess says whether a failure for this reason may have been a guess at a password. Only these count for
// fail2ban: a client must not be banned because a backend is down, or because it was set up without TLS.
func (r Reason) Guess() bool {
	switch r {
	case ReasonBadPassword, ReasonUnknownUser, ReasonAccountDisabled, ReasonBadToken, ReasonBackendRefused, ReasonPolicyRefused,
		ReasonBadName, ReasonBadAuthzid, ReasonBadCredentials, ReasonMalformed:
		return true
	}
	return false
}

// known says whether r is one of Reasons.
func (r Reason) known() bool {
	for _, k := range Reasons() {
		if k == r {
			return true
		}
	}
	return false
}

// ReasonOf returns the reason that goes with an error of this package;
// ReasonUnavailable for every other error, since a failure that isn't known to be the
// client's fault isn't blamed on the client.
func ReasonOf(err error) Reason {
	switch {
	case errors.Is(err, ErrName):
		return ReasonBadName
	case errors.Is(err, ErrAuthzid):
		return ReasonBadAuthzid
	case errors.Is(err, ErrPassword):
		return ReasonBadCredentials
	case errors.Is(err, ErrCancelled):
		return ReasonCancelled
	case errors.Is(err, ErrMechanism):
		return ReasonBadMechanism
	case errors.Is(err, ErrBinding):
		return ReasonBadBinding
	case errors.Is(err, ErrSyntax), errors.Is(err, ErrMessage):
		return ReasonMalformed
	}
	return ReasonUnavailable
}

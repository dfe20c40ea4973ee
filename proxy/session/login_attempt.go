package session

import (
	"strings"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// attempt is the state of one login.
type attempt struct {
	tag, mechanism string
	user           string // canonical, or what the client sent if it has no canonical form
	source         string // the credential source that decided
	backend        string
	proof          upstream.Proof // what is known about the password before the backend is asked
	stamp          any            // auth.Accepted.Stamp
	password       telemetry.Secret
	given          *given        // what a source gave in addition to its verdict
	wait           time.Duration // the delay that a source wants before the answer to a failure
	words          string        // the backend's text for the client (upstream.ForUser)
	alerts         []string      // the alerts that came with it
	guess          *guessing.Attempt
	begun          time.Time
	trace          *telemetry.LoginTrace
	err            error // for the trace and the log
}

// accepted records what a source says about a client that it accepts. From here on the user is the one that
// the source names.
func (a *attempt) accepted(v auth.Accepted, login *upstream.Auth) {
	a.proof, a.stamp, a.given = upstream.Verified, v.Stamp, newGiven(login.User, v)
	if v.User != "" {
		login.User, a.user = v.User, v.User
	}
	if v.Password != "" {
		login.Mode, login.Password = upstream.ModeUser, v.Password
	}
}

// maxAlerts bounds how many alerts of one login are passed on.
const maxAlerts = 5

// told returns the alerts that came with a refusal, as lines for the client (RFC 9051 §7.1).
func (a *attempt) told() string {
	var b strings.Builder
	for _, text := range a.alerts[:min(len(a.alerts), maxAlerts)] {
		b.WriteString("* OK [ALERT] " + text + "\r\n")
	}
	return b.String()
}

package session

import (
	"strings"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/auth/authpolicy"
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
	challenge      []byte        // what the backend says of a refused token, for the client
	alerts         []string      // the alerts that came with it
	guess          *guessing.Attempt
	policy         *policed // nil: the policy server isn't asked
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

// policed is what a login tells the policy server, and when the answer to a wrong password would be due.
type policed struct {
	server *authpolicy.Client
	login  authpolicy.Login
	spent  time.Duration // with the question after the password, by which the answer to a refusal would be later than that to a wrong password
}

// late is how much later than a wrong password the login was refused.
func (p *policed) late() time.Duration {
	if p == nil {
		return 0
	}
	return p.spent
}

// report tells the policy server how a login has ended: one that has succeeded, and one that has failed for a reason that may be a
// guess. What a limit or an outage has refused says nothing about the password.
func (a *attempt) report(success bool, why auth.Reason) {
	if a.policy != nil && (success || why.Guess()) {
		a.policy.server.Report(a.policy.login, success, why == auth.ReasonPolicyRefused)
	}
}

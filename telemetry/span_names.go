package telemetry

// The names of the spans that aren't phases or steps. A command's is commandPrefix and its verb.
const (
	spanLogin     = "login"
	spanTLS       = "tls"
	spanPark      = "park"
	spanResume    = "resume"
	spanRecover   = "recover"
	spanResync    = "resync"
	spanWatch     = "watch"
	spanRelay     = "relay" // the backend's part of a command
	commandPrefix = "imap "
)

// The names of a login's phases, which are the names of its trace's spans.
const (
	PhaseExchange     = "exchange" // the client's part of AUTHENTICATE
	PhaseDelay        = "delay"    // waiting, because the login may be a guess at a password
	PhasePolicy       = "policy"   // asking the policy server, and waiting because of its answer
	PhaseAuth         = "auth"
	PhaseHashTurn     = "hash_turn" // within auth: waiting for the turn to hash a password
	PhaseHash         = "hash"      // within auth: hashing a password
	PhasePlacement    = "placement" // asking Consul on which backend the user is
	PhasePick         = "pick"
	PhasePaused       = "paused" // waiting for the end of the backend's pause
	PhaseTurn         = "turn"   // waiting for a slot among the logins at a backend
	PhasePool         = "pool"   // checking that a pooled connection is alive
	PhaseDial         = "dial"
	PhaseBackendTLS   = "backend_tls" // within backend_login
	PhaseBackendLogin = "backend_login"
	PhaseVerify       = "verify" // is the intended user the one logged in?
)

// The names of the steps of a park, a resume, a recovery, a resync and a watch, which are the names of their traces' spans.
const (
	StepSubscribe  = "subscribe"  // waiting until hints flow for the mailbox
	StepFlags      = "flags"      // reading all flags, if the strategy is comparison
	StepDone       = "done"       // ending the backend's IDLE
	StepSnapshot   = "snapshot"   // finding the messages that the client counts
	StepDeselect   = "deselect"   // deselecting the mailbox
	StepRelease    = "release"    // giving the connection to the pool, or closing it
	StepBack       = "back"       // the park has failed: the backend enters IDLE again
	StepTurn       = "turn"       // waiting for the turn at the backend
	StepPool       = "pool"       // taking a connection from the pool
	StepLogin      = "login"      // logging in on a new connection
	StepEnable     = "enable"     // enabling what the client had enabled
	StepSelect     = "select"     // SELECT or EXAMINE
	StepDifference = "difference" // finding the changes since the view
	StepTell       = "tell"       // telling the changes to the client or to all members
	StepIdle       = "idle"       // entering IDLE at the backend for a client in IDLE
	StepAttempt    = "attempt"    // a failed attempt
	StepPause      = "pause"      // waiting for the next attempt
	StepConnect    = "connect"    // waiting for the turn, and connecting
	StepResync     = "resync"     // EXAMINE and the commands after it
	StepNotify     = "notify"     // NOTIFY
)

// inConversation says whether a step is a conversation with the backend, so that its span has the kind CLIENT.
func inConversation(step string) bool {
	switch step {
	case StepFlags, StepDone, StepSnapshot, StepDeselect, StepBack, StepEnable, StepSelect, StepDifference, StepIdle, StepResync, StepNotify:
		return true
	}
	return false
}

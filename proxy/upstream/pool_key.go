package upstream

import "crypto/sha256"

// Use is what a connection serves, for as long as it lives: a connection that a
// session has used never serves a watch or a resync, whose ENABLE
// would change what the session is told, nor the other way round.
type Use uint8

// The uses of a connection.
const (
	UseSession Use = iota // it speaks for a client, in that client's dialect
	UseWatch              // the proxy's own: watches, resync
)

// Kinds of connections in the gauge imapproxy.backend.connections, besides those
// that a Dialer counts.
const (
	kindWarm  = "warm"
	kindWatch = "watch"
)

func (u Use) kind() string {
	if u == UseWatch {
		return kindWatch
	}
	return kindSession
}

// PoolKey says which connections can stand in for each other: those with equal keys. Pool.Key makes it; it
// holds no secret.
type PoolKey struct {
	user    string
	target  Target // id, address and TLS: a backend that moved is another
	master  bool
	authzid string // the user it acts for; empty: the authentication identity
	authcid string // whose password was sent
	digest  [sha256.Size]byte
	use     Use
	dialect string
}

func (k PoolKey) valid() bool { return k.user != "" && k.authcid != "" }

// Proof is what is known of the credential when a connection is asked for.
type Proof uint8

const (
	// Unproven: only the backend could say whether it is right. Only a
	// connection that the backend itself let in with this credential, for a client at the same
	// address, within AuthCacheFor is lent; else the caller logs in and so asks.
	Unproven Proof = iota
	// Verified: a source of the proxy's own has found the credential right for
	// this very login, or the session that asks has been logged in with it for
	// as long as it lives (a resume).
	Verified
)

// Condition is how the giver leaves a connection. What isn't clean is closed, not
// lent: a pooled connection that is still in IDLE answers the next session's
// first command with "BAD Expected DONE". The zero value says that it is clean.
type Condition struct {
	Idling      bool // IDLE whose tagged answer hasn't come, after DONE too
	InFlight    bool // a command not answered
	HalfLiteral bool // a literal announced or begun, and not sent to its end
	Selected    bool // a mailbox is selected
	Notify      bool // NOTIFY is set: it speaks unasked
	Doubt       bool // anything unknown that may be state
}

func (s Condition) clean() bool { return s == Condition{} }

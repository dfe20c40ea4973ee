package upstream

import "crypto/sha256"

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

// PoolKey says which connections can replace each other: those with equal keys. Pool.Key makes it; it
// contains no secret.
type PoolKey struct {
	user    string
	target  Target // id, address and TLS: a backend with another address is another target
	master  bool
	authzid string // the user for whom it acts; empty: the authentication identity
	authcid string // whose password was sent
	token   string // by which mechanism a token was sent; empty: it was a password
	digest  [sha256.Size]byte
	use     Use
	dialect string
}

func (k PoolKey) valid() bool { return k.user != "" && k.authcid != "" }

// Proof says what is known of the credential when a connection is requested.
type Proof uint8

const (
	// Unproven: only the backend can verify it. Only a connection is lent that the backend itself accepted
	// with this credential, for a client in the same network, within AuthCacheFor; otherwise the caller logs
	// in.
	Unproven Proof = iota
	// Verified: a source of the proxy has verified the credential for this login, or the requesting session
	// has been logged in with it all the time (a resume).
	Verified
)

// Condition is the state in which a connection is given. An unclean connection is closed, not lent: a pooled
// connection that is still in IDLE would answer the next session's first command with "BAD Expected DONE".
// The zero value means clean.
type Condition struct {
	Idling      bool // IDLE whose tagged answer hasn't come, also after DONE
	InFlight    bool // a command not answered
	HalfLiteral bool // a literal was announced or begun, and not completed
	Selected    bool // a mailbox is selected
	Notify      bool // NOTIFY is set: the backend sends data without a command
	Doubt       bool // there may be unknown state
}

func (s Condition) clean() bool { return s == Condition{} }

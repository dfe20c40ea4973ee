package agree

import "time"

// Op is a request that a Member makes to Consul. Each has a deadline (OpTimeout), and may be sent again
// unchanged: a second time changes nothing. Its result is passed to Member.Done.
type Op struct {
	ID   uint64
	Kind OpKind
	// Session is the session that Renew and Destroy are about. Create returns its session in Result.Session.
	Session string
	// TTL is the TTL of a new session. The session has no checks (NodeChecks is empty, so that the agent's
	// gossip doesn't end it), the behaviour `release` and the shortest lock-delay.
	TTL time.Duration
	// Txn has the operations of a Write, in their order. Consul does all or none of them.
	Txn []TxnOp
}

// OpKind is the kind of an Op.
type OpKind uint8

// The kinds of Op.
const (
	CreateSession OpKind = iota + 1
	RenewSession
	DestroySession
	Write // a Txn
	Read  // of the whole prefix, consistent, not blocking; the answer is in Result.Reading
)

// OpTimeout is an Op's deadline. Without it, a leader that hangs would hold a request for 25 seconds.
const OpTimeout = 2500 * time.Millisecond

// TxnOp is one operation of a Txn.
type TxnOp struct {
	Verb    TxnVerb
	Key     string // below the prefix
	Value   []byte
	Index   uint64 // of CheckIndex, CAS, DeleteCAS; CAS with 0 creates
	Session string // of CheckSession, Lock
}

// TxnVerb is the operation.
type TxnVerb uint8

// The verbs, by their names in Consul's API.
const (
	CheckIndex     TxnVerb = iota + 1 // check-index
	CheckNotExists                    // check-not-exists
	CheckSession                      // check-session
	Lock                              // lock: sets the value, and needs the key free or held by Session
	CAS                               // cas
	DeleteCAS                         // delete-cas
)

// Result is the outcome of an Op.
type Result struct {
	// Err means that it isn't known whether the Op was done (no answer in time, no leader, a broken
	// connection, HTTP 5xx), or that it isn't allowed (ACL). The other fields are zero then, except Sent.
	Err error
	// Refused means that Consul answered and didn't do it: a check of the Txn failed, or the session doesn't
	// exist.
	Refused bool
	// Index is the ModifyIndex of the keys that a Write has written.
	Index uint64
	// Session is the id of the session that was created.
	Session string
	// Reading is the answer to a Read.
	Reading *Reading
	// Sent is when the request was sent, by the proxy's own clock: a session counts as renewed from then.
	Sent time.Time
}

// Effect is something that the proxy has to do, or to report to its operator.
type Effect struct {
	Kind EffectKind
	User string
	// Backend is where the user's connections are.
	Backend string
	// Abort means that the sockets are closed now, without waiting for a safe point or an answer.
	Abort bool
	// Text is for the log.
	Text string
	Err  error
}

// EffectKind is the kind of an Effect.
type EffectKind uint8

// The kinds of Effect.
const (
	// LetGo: end all backend connections of the user (sessions at a safe point, watches, warm connections),
	// and release each claim once the end of its connection has been seen. Another LetGo comes later for
	// connections that can't be ended now.
	LetGo EffectKind = iota + 1
	// CloseAll: end all backend connections of all users now.
	CloseAll
	// Joined: this proxy counts from now on.
	Joined
	// Isolated: this proxy no longer trusts what it knows (Text says why).
	Isolated
	// Back: this proxy trusts what it knows again.
	Back
	// Switched: this proxy goes by a new fleet.
	Switched
	// End: the time that a drain gives the user's sessions is over. Sessions that have connections at the
	// backend are ended with a BYE. A LetGo comes with it.
	End
	// Trouble: Err is an error that the operator has to correct.
	Trouble
)

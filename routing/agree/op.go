package agree

import "time"

// Op is a request to Consul that a Member wants made. Each has a deadline of its own (OpTimeout), and may
// be sent again as it is: what it does, it does once. Its outcome goes to Member.Done.
type Op struct {
	ID   uint64
	Kind OpKind
	// Session is what Renew and Destroy are about. Create's answer goes into Result.Session.
	Session string
	// TTL is the new session's. It has no checks (NodeChecks empty, so that the agent's gossip doesn't end it), the behaviour
	// `release` and the shortest lock-delay.
	TTL time.Duration
	// Txn is the operations of a Write, which Consul makes all or none, in their order.
	Txn []TxnOp
}

// OpKind says what an Op does.
type OpKind uint8

// The kinds of Op.
const (
	CreateSession OpKind = iota + 1
	RenewSession
	DestroySession
	Write // a Txn
	Read  // of the whole prefix, consistent, not blocking; Result.Reading is the answer
)

// OpTimeout is an Op's deadline: a leader that hangs held a request for 25 seconds.
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
	// Err: it isn't known whether the Op was done (no answer in time, no leader, a broken connection, HTTP 5xx), or it wasn't
	// allowed (ACL). All else is zero then.
	Err error
	// Refused: Consul answered, and didn't do it: a check of the Txn failed, the session doesn't exist.
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

// Effect is something that the proxy has to do, or to tell its operator.
type Effect struct {
	Kind EffectKind
	User string
	// Backend is where the user's connections are.
	Backend string
	// Abort: don't wait for a safe point or an answer; close the sockets.
	Abort bool
	// Text is for the log.
	Text string
	Err  error
}

// EffectKind says what an Effect is.
type EffectKind uint8

// The kinds of Effect.
const (
	// LetGo: end all backend connections of the user (sessions at a safe point, watches, warm ones), and Release each once its
	// end is seen. What can't be ended now is asked for again, later.
	LetGo EffectKind = iota + 1
	// CloseAll: end all backend connections of all users now.
	CloseAll
	// Joined: this proxy counts, from now on.
	Joined
	// Isolated: this proxy doesn't trust what it knows any more (Text says why).
	Isolated
	// Back: it does again.
	Back
	// Switched: it goes by a new fleet.
	Switched
	// End: the time that a drain gives the user's sessions is over. Those that have connections at the backend are ended, with a BYE.
	// A LetGo comes with it.
	End
	// Trouble: Err is something for the operator to mend.
	Trouble
)

package upstream

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// Use is what a connection serves, for as long as it lives: a connection that a
// session has used never becomes one of the proxy's own dialogues, whose ENABLE
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

// PoolKey says which connections are the same to whoever wants one: all of it
// must be equal. Pool.Key makes it; it holds no secret.
type PoolKey struct {
	user    string
	target  Target // id, address and TLS: a backend that moved is another
	master  bool
	authzid string // whom it acts for; empty: the authentication identity
	authcid string // whose password was sent
	digest  [sha256.Size]byte
	use     Use
	dialect string
}

func (k PoolKey) valid() bool { return k.user != "" && k.authcid != "" }

// Key makes the key of connections to t, logged in with a as the user (the
// canonical name, as routing has it), for one use. dialect is what was enabled on
// the connection, in words of the caller's: two connections with the same dialect
// answer the same command alike.
//
// The credential is in it as a digest, keyed with a secret of this Pool's: a dump
// of the process's memory is no list of hashes to be guessed at elsewhere, and a
// wrong password finds nothing.
func (p *Pool) Key(user string, t Target, a Auth, use Use, dialect string) PoolKey {
	authzid, authcid, password := a.identity()
	k := PoolKey{
		user: user, target: t, master: a.Mode == ModeMaster,
		authzid: authzid, authcid: authcid, use: use, dialect: dialect,
	}
	mode := ModeUser
	if k.master {
		mode = ModeMaster
	}
	mac := hmac.New(sha256.New, p.seal[:])
	// Each part behind its length, so that no two credentials are the same bytes.
	for _, part := range []string{mode, authzid, authcid, password.Reveal()} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		mac.Write(n[:])
		mac.Write([]byte(part))
	}
	mac.Sum(k.digest[:0])
	return k
}

// Proof is what is known of the credential when a connection is asked for.
type Proof uint8

const (
	// Unproven: nobody but the backend could say whether it is right. Only a
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

package upstream

import (
	"cmp"
	"container/list"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"

	"imapproxy/telemetry"
)

// Defaults of PoolOptions.
const (
	DefaultPoolPerUser = 4
	DefaultPoolTotal   = 1024
	DefaultPoolSweep   = 5 * time.Second

	// poolMaxAge bounds the time between a connection's login and its last reuse: a connection that is reused
	// by every login of a user would keep the rights, and other data that the backend looked up at the login,
	// for ever.
	poolMaxAge = time.Hour
)

// PoolOptions are the settings of a Pool. With the zero value no connections are kept.
type PoolOptions struct {
	// WarmFor is how long a connection may wait for reuse. Keep it short: a backend may continue to apply the
	// rights of the login's time (Dovecot and its ACLs). Zero: no connections are kept. A connection of
	// watches and resyncs (UseWatch) waits a tenth of that: it serves bursts of hints.
	WarmFor time.Duration

	// AuthCacheFor is how long after a backend's login the same credential counts as right without asking the
	// backend again. Zero: never. See Proof.
	AuthCacheFor time.Duration

	// PerUser and Total bound the number of connections; the one that has waited longest is closed first.
	// Zero: the defaults.
	PerUser, Total int

	// SweepEvery is how often Run checks for connections that have waited too long, or that a backend has
	// ended. Zero: DefaultPoolSweep.
	SweepEvery time.Duration

	// Room knows how many connections a backend accepts; the pool closes connections for it. nil: no backend
	// has a bound. Reload keeps the Room of NewPool.
	Room *Room

	Telemetry *telemetry.Telemetry // may be nil
	Now       func() time.Time     // nil: time.Now
}

func (o PoolOptions) withDefaults() PoolOptions {
	o.PerUser = cmp.Or(o.PerUser, DefaultPoolPerUser)
	o.Total = cmp.Or(o.Total, DefaultPoolTotal)
	o.SweepEvery = cmp.Or(o.SweepEvery, DefaultPoolSweep)
	if o.Telemetry == nil {
		o.Telemetry = telemetry.Discard()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// warmFor returns how long a connection of this use waits. Periodic resyncs of a parked user's mailboxes
// would keep a connection for the user all the time if it waited as long as a session's.
func (o PoolOptions) warmFor(u Use) time.Duration {
	if u == UseWatch {
		return o.WarmFor / 10
	}
	return o.WarmFor
}

// Reasons why the pool closes a connection, as labels of a metric.
const (
	closedUnclean   = "unclean"
	closedEnded     = "ended"
	closedExpired   = "expired"
	closedPerUser   = "per_user"
	closedTotal     = "total"
	closedForgotten = "forgotten"
	closedOff       = "off"
	closedRoom      = "room"
)

// eviction is a connection to be closed.
type eviction struct {
	conn *Conn
	why  string
}

// Pool keeps connections that aren't in use, logged in and with no mailbox selected, for the user's next
// need. It never logs in itself.
//
// It has connections of sessions that were parked or have ended, and those that the hub has used for its
// resyncs (a connection's Use never changes), because a login costs the backend 1 to 6 ms of CPU. Each is
// lent again (Take), or closed: when WarmFor is over, when its backend has ended it, when there are too many,
// or when its user or backend is forgotten.
//
// A connection has no goroutine: whether its backend has ended it, or sent data, is checked before it is
// lent, and periodically (Run).
type Pool struct {
	seal [32]byte // the key of credentials' digests; a new one for each Pool

	mu  sync.Mutex // guards the fields below; no I/O under it
	opt PoolOptions
	// users has each user's connections, the one that has waited longest first. There are at most PerUser, so
	// finding one is a scan.
	users map[string][]*warm
	// order has all connections, the one that has waited longest first.
	order  *list.List
	closed bool
	// flushed has the users whose earlier credentials don't count any more (FlushUser).
	flushed map[string]time.Time
	// left has the users who were let go of lately, with the time (LetGo); allLeft is the time when all were.
	left    map[string]time.Time
	allLeft time.Time
}

// warm is one connection in the pool.
type warm struct {
	key   PoolKey
	conn  *Conn
	since time.Time
	place *list.Element // in Pool.order
	// looked: the sweep is checking it, outside the lock, and no other goroutine may read it. It may be
	// closed nevertheless.
	looked bool
}

// Key returns the key of connections to t, logged in with a as the user (the canonical name), for one use.
// dialect describes what was enabled on the connection, in the caller's words: two connections with the same
// dialect answer the same command alike.
//
// The key has the credential as a digest, keyed with a secret of this Pool: a dump of the process's memory
// doesn't help guessing passwords elsewhere, and a wrong password finds no connection.
func (p *Pool) Key(user string, t Target, a Auth, use Use, dialect string) PoolKey {
	authzid, authcid, password := a.identity()
	k := PoolKey{
		user: user, target: t, master: a.Mode == ModeMaster,
		authzid: authzid, authcid: authcid, token: a.Mechanism, use: use, dialect: dialect,
	}
	mode := ModeUser
	if k.master {
		mode = ModeMaster
	}
	mac := hmac.New(sha256.New, p.seal[:])
	// Each part is preceded by its length, so that different credentials never have the same bytes.
	for _, part := range []string{mode, authzid, authcid, password.Reveal()} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		mac.Write(n[:])
		mac.Write([]byte(part))
	}
	mac.Sum(k.digest[:0])
	return k
}

// Give takes ownership of a connection, and keeps or closes it; the caller's handle can't be used afterwards.
// It says whether the connection is kept.
//
// A connection is kept if it is clean (see Condition) and idle, and the settings allow it.
func (p *Pool) Give(k PoolKey, c *Conn, s Condition) bool {
	tel := p.options().Telemetry
	tel.PoolGiven(k.use.kind())
	mine := c.HandOver(tel, kindWarm)
	unfit := ""
	switch {
	case !s.clean() || !k.valid() || k.target != mine.Target:
		unfit = closedUnclean
	case mine.Pending() != nil:
		unfit = closedEnded
	case p.options().Now().Sub(mine.LoggedIn) >= poolMaxAge:
		unfit = closedExpired
	case p.hasLeft(k.user, mine):
		unfit = closedForgotten
	}
	if unfit != "" {
		tel.PoolClosed(unfit)
		_ = mine.Abort()
		return false
	}
	mine.Untagged = nil // its session's client has received them
	for _, e := range p.put(k, mine) {
		tel.PoolClosed(e.why)
		_ = e.conn.Close()
		if e.conn == mine {
			return false
		}
	}
	if room := p.options().Room; room != nil {
		room.Trim(k.target.ID)
	}
	return true
}

// put adds a connection, and returns the connections that have to be closed for it.
func (p *Pool) put(k PoolKey, c *Conn) (evicted []eviction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.opt.WarmFor <= 0 {
		return []eviction{{c, closedOff}}
	}
	w := &warm{key: k, conn: c, since: p.opt.Now()}
	w.place = p.order.PushBack(w)
	p.users[k.user] = append(p.users[k.user], w)
	for len(p.users[k.user]) > p.opt.PerUser {
		evicted = append(evicted, eviction{p.removeLocked(p.users[k.user][0]), closedPerUser})
	}
	for p.order.Len() > p.opt.Total {
		evicted = append(evicted, eviction{p.removeLocked(p.order.Front().Value.(*warm)), closedTotal})
	}
	return evicted
}

// hasLeft says whether a connection is from before LetGo.
func (p *Pool) hasLeft(user string, c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.left[user]
	return ok && !c.LoggedIn.After(at) || !p.allLeft.IsZero() && !c.LoggedIn.After(p.allLeft)
}

// Take lends a connection with exactly this key, the one that has waited the shortest time; nil if there is
// none that may be lent. It then belongs to the caller. from is the client whose login it is for; it counts
// if the credential is Unproven.
//
// A connection that its backend has ended, or on which it has sent data, is closed and not lent.
func (p *Pool) Take(k PoolKey, proof Proof, from netip.Addr) *Conn {
	return p.take(k, func(w *warm, now time.Time) bool { return p.mayLendLocked(w, proof, from, now) })
}

// TakeSince is Take for a credential that only the backend can verify, and that has to be verified
// periodically: it lends only connections that the backend accepted at since or later.
func (p *Pool) TakeSince(k PoolKey, since time.Time) *Conn {
	return p.take(k, func(w *warm, _ time.Time) bool { return !w.conn.LoggedIn.Before(since) })
}

func (p *Pool) take(k PoolKey, may func(*warm, time.Time) bool) *Conn {
	for {
		w, tel, expired := p.pick(k, may)
		for _, c := range expired {
			tel.PoolClosed(closedExpired)
			_ = c.Close()
		}
		if w == nil {
			tel.PoolAsked(k.use.kind(), "none")
			return nil
		}
		if w.conn.Pending() == nil {
			tel.PoolAsked(k.use.kind(), "lent")
			return w.conn.HandOver(tel, k.use.kind())
		}
		tel.PoolClosed(closedEnded)
		_ = w.conn.Abort()
	}
}

// pick removes the best connection for a key, and those of the key that have waited too long.
func (p *Pool) pick(k PoolKey, may func(*warm, time.Time) bool) (found *warm, tel *telemetry.Telemetry, expired []*Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.opt.Now()
	for _, w := range slices.Backward(slices.Clone(p.users[k.user])) {
		switch {
		case w.key != k || w.looked:
		case now.Sub(w.since) >= p.opt.warmFor(w.key.use):
			expired = append(expired, p.removeLocked(w))
		case found == nil && may(w, now):
			p.removeLocked(w)
			found = w
		}
	}
	return found, p.opt.Telemetry, expired
}

// mayLendLocked is the rule that a warm connection alone never makes a login succeed: the credential was
// verified for this login, or this connection was itself opened with the same credential (the key says so)
// not long ago, for a client in the same network, since a backend may accept a user only from some networks
// (Dovecot's allow_nets).
//
// In mode master the connection was opened with the proxy's own credential, which proves nothing about the
// user's.
func (p *Pool) mayLendLocked(w *warm, proof Proof, from netip.Addr, now time.Time) bool {
	if proof == Verified {
		return true
	}
	if at, ok := p.flushed[w.key.user]; ok && !w.conn.LoggedIn.After(at) {
		return false
	}
	age := now.Sub(w.conn.LoggedIn)
	return !w.key.master && SameNetwork(w.conn.LoggedInFor, from) && age >= 0 && age < p.opt.AuthCacheFor
}

// SameNetwork says whether two clients are in one /24, or for IPv6 in one /64: behind a carrier's NAT, or
// with temporary addresses, one client uses several addresses.
func SameNetwork(a, b netip.Addr) bool {
	a, b = a.Unmap(), b.Unmap()
	bits := 64
	if a.Is4() {
		bits = 24
	}
	network, err := a.Prefix(bits)
	return err == nil && network.Contains(b)
}

// removeLocked removes a connection from the pool.
func (p *Pool) removeLocked(w *warm) *Conn {
	p.order.Remove(w.place)
	of := p.users[w.key.user]
	if i := slices.Index(of, w); i >= 0 {
		of = slices.Delete(of, i, i+1)
	}
	if len(of) == 0 {
		delete(p.users, w.key.user)
	} else {
		p.users[w.key.user] = of
	}
	w.place = nil
	return w.conn
}

// Keeps says whether the settings allow keeping connections.
func (p *Pool) Keeps() bool { return p.options().WarmFor > 0 }

// Len returns how many connections wait.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.order.Len()
}

func (p *Pool) options() PoolOptions {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opt
}

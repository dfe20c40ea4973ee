package agree

import (
	"time"

	"imapproxy/routing"
)

// Answer is the answer to a claim.
type Answer struct {
	Verdict Verdict
	Backend string // where the verdict is Go
	Why     string // the reason in a few words, constant
}

// Verdict says what the caller has to do.
type Verdict uint8

const (
	// Wait: the caller waits until Version changes, and claims again. After AgreeWithin the client gets NO
	// [UNAVAILABLE].
	Wait Verdict = iota
	// Go: the caller connects to the backend. The claim counts as a connection from now on, so that a switch
	// before or during the dial publishes it. Each Go is ended by one Release.
	Go
	// Refuse: the client gets NO [UNAVAILABLE] now.
	Refuse
)

func wait(why string) Answer   { return Answer{Verdict: Wait, Why: why} }
func refuse(why string) Answer { return Answer{Verdict: Refuse, Why: why} }

// Claim asks where a connection of the user may be made, for a session, a watch or a resync. home is the
// user's placement, "" if there is none. For a user who is where the function says, Claim allocates nothing
// and makes no request. The cases, in order:
//
//	this proxy is leaving, or the name can't be routed     refused
//	this proxy hasn't joined                               waits
//	this proxy is isolated, with Hold or its key removed   waits
//	this proxy has connections of the user                 there; while the user is asked to leave: waits (also
//	                                                       for a while longer if all of them were closed)
//	separate storage, no override                          home; without one: refused
//	a placement that differs from the override             asks for an override, waits
//	its own stay of the user, or of the bucket             back there; while its users are asked to leave: waits (also
//	                                                       for a while longer if no connection needs the stay)
//	another proxy's stay                                   asks to follow it, waits; if isolated: only waits
//	choice differs between fleets that proxies go by       waits
//	no backend is up                                       refused
//	else                                                   where the function says
func (m *Member) Claim(user, home string, now time.Time) Answer {
	m.at(now)
	switch {
	case m.phase >= leaving:
		return refuse("this proxy is stopping")
	case !goodName(user):
		return refuse("the user's name can't be routed")
	case m.fleet == nil || m.phase == outside && !m.isolated:
		return wait("this proxy hasn't joined the others")
	case m.isolated && (m.o.Isolated == Hold || m.removed):
		return wait("this proxy is cut off from Consul")
	}
	m.judge()
	bucket := m.bucket(user)
	if h := m.holds[user]; h != nil {
		return m.again(h, home)
	}
	if m.o.Storage == routing.Separate && m.override(user) == "" && !m.named[user] {
		return m.goHome(user, bucket, home)
	}
	if m.wantsOverride(user, home, bucket) {
		return wait("the user's placement is being made known")
	}
	v := m.verdicts[bucket]
	if m.special(user) {
		v = m.judgeUser(user, bucket, home)
	}
	switch v.kind {
	case goes:
		if v.at == 0 {
			return refuse("no backend is up")
		}
		if m.o.Storage == routing.Separate && m.fleet.lost(m.places.ids[v.at]) {
			return refuse("the user's backend is down")
		}
	case goesBack:
		if m.barred(user, bucket, v.at) || m.empty(user, bucket, v.at) && m.lingers(user, bucket, v.at) {
			return wait("the user is being moved")
		}
	case follows:
		switch {
		case m.isolated:
			return wait("this proxy is cut off from Consul")
		case m.barred(user, bucket, v.at):
			return wait("the user is being moved")
		}
		m.wants[user] = m.now.Add(m.o.AgreeWithin)
		m.pump()
		return wait("another proxy has the user elsewhere")
	default:
		return wait("the proxies are agreeing on the user")
	}
	delete(m.wants, user)
	m.take(user, bucket, v.at)
	return Answer{Verdict: Go, Backend: m.places.ids[v.at]}
}

// ClaimAt is Claim for a connection to the backend where the caller has the user: for a session that goes
// on, or a watch. With separate storage the backend stands for the placement, if no connection says where
// the user is; with shared storage the fleet already has what the placement asked for. An answer that names
// another backend counts like every Go: it has to be released.
//
// While the turn of a user lasts, a user who has living connections of this proxy at the backend gets a
// further one: a watch at any time, since a session that is to leave may need one of its mailbox first; any
// other in the second half of the turn. In the first half sessions that have left wait for those that haven't:
// otherwise busy sessions of one user would take turns in holding the user. The user is asked to
// leave once more then. Connections that were closed, and whose ends haven't been seen, give no such right.
func (m *Member) ClaimAt(user, backend string, watch bool, now time.Time) Answer {
	m.at(now)
	h := m.holds[user]
	if h != nil && m.phase == inside && !m.isolated && h.conns > h.ending && m.places.ids[h.at] == backend && m.leavesInTurn(h) && (watch || m.lateFor(h)) {
		h.conns++
		m.askAnew(user)
		return Answer{Verdict: Go, Backend: backend}
	}
	home := ""
	if m.separate() && h == nil {
		home = backend
	}
	return m.Claim(user, home, now)
}

// again answers a claim for a user who has connections of this proxy already.
func (m *Member) again(h *hold, home string) Answer {
	bucket := int(h.bucket)
	switch {
	case m.o.Storage == routing.Separate && home != "" && m.override(h.user) == "" && home != m.places.ids[h.at] && !m.named[h.user]:
		m.effect(Effect{Kind: LetGo, User: h.user, Backend: m.places.ids[h.at], Text: "the placement has changed"})
		return wait("the user's placement has changed")
	case m.wantsOverride(h.user, home, bucket):
		return wait("the user's placement is being made known")
	case m.barred(h.user, bucket, h.at), h.ending == h.conns && m.lingers(h.user, bucket, h.at):
		return wait("the user is being moved")
	}
	if _, asked := m.yielding[h.user]; asked {
		return wait("the user is being moved")
	}
	h.conns++
	return Answer{Verdict: Go, Backend: m.places.ids[h.at]}
}

// goHome answers a claim with separate storage for a user without an override. Only the placement says where
// the user is, so there is nothing to agree on.
func (m *Member) goHome(user string, bucket int, home string) Answer {
	b := m.fleet.backend(home)
	switch {
	case home == "":
		return refuse("the user has no placement")
	case b == nil:
		return refuse("the placement names an unknown backend")
	case b.State == routing.Down:
		return refuse("the user's backend is down")
	}
	m.take(user, bucket, m.places.of(home))
	return Answer{Verdict: Go, Backend: b.ID}
}

// Release records that a connection of the user has ended: the server's answer to LOGOUT or the end of the
// stream was seen, or the dial failed, or the socket was closed after an Effect with Abort. There is one
// Release for each claim that was answered Go.
func (m *Member) Release(user string, now time.Time) {
	m.at(now)
	h := m.holds[user]
	if h == nil {
		return
	}
	bucket := int(h.bucket)
	m.drop(h)
	if m.holds[user] == nil && m.hasStay(user, bucket) {
		m.emptied = true
		m.changed()
		m.pump()
	} else if m.phase == leaving && len(m.holds) == 0 {
		m.pump()
	}
}

// Ending records that a connection of the user was closed, and that its end hasn't been seen. The connection
// still counts. Ended is called for it in place of Release.
func (m *Member) Ending(user string, now time.Time) {
	m.at(now)
	if h := m.holds[user]; h != nil {
		h.ending++
	}
}

// Ended is Release for a connection for which Ending was called.
func (m *Member) Ended(user string, now time.Time) {
	if h := m.holds[user]; h != nil && h.ending > 0 {
		h.ending--
	}
	m.Release(user, now)
}

// empty reports whether no connection needs this proxy's stay of the user, or of the bucket.
func (m *Member) empty(user string, bucket int, at place) bool {
	if _, own := m.own.Users[user]; own {
		return m.holds[user] == nil
	}
	for h := m.heads[bucket]; h != nil; h = h.next {
		if h.at == at && m.inBucket(m.own, h.user) {
			return false
		}
	}
	return true
}

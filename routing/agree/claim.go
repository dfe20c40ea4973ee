package agree

import (
	"time"
	"unicode/utf8"

	"imapproxy/routing"
)

// Answer is what a claim is told.
type Answer struct {
	Verdict Verdict
	Backend string // of Go
	Why     string // a few words, constant
}

// Verdict is what the caller does.
type Verdict uint8

const (
	// Wait until Version changes, and claim again; after AgreeWithin: NO [UNAVAILABLE].
	Wait Verdict = iota
	// Go to the backend. The claim counts as a connection from now on, so that a switch before or in the dial
	// publishes it; each Go is ended by one Release.
	Go
	// Refuse: NO [UNAVAILABLE] now.
	Refuse
)

func wait(why string) Answer   { return Answer{Verdict: Wait, Why: why} }
func refuse(why string) Answer { return Answer{Verdict: Refuse, Why: why} }

// Claim asks where a connection of the user may be made: a session's, a watch's, a resync's. home is the user's placement, "" where there
// is none. For a user who is where the function says, it allocates nothing and asks for nothing. In order:
//
//	it leaves, or the name is none                         refused
//	it hasn't joined                                       waits
//	isolated: Hold, or others took its key away            waits
//	it has connections of the user                         there; unless the user is asked to leave there: waits
//	separate storage, no override                          home; without one: refused
//	a placement that differs from the override             asks for an override, waits
//	its own stay of the user, or of the bucket             back there; while its users are asked to leave: waits
//	another's stay                                         asks to follow, waits; isolated: waits
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
		if m.open(user, bucket, v.at) {
			return wait("the user is being moved")
		}
	case follows:
		switch {
		case m.isolated:
			return wait("this proxy is cut off from Consul")
		case m.open(user, bucket, v.at):
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

// ClaimAt is Claim for a connection to the backend where the caller has the user: a session's that goes on, a watch's. With separate storage the
// backend stands for the placement, as long as no connection says where the user is; with shared storage what the placement asked for is in
// the fleet. An answer that names another backend counts like every Go: it has to be released.
//
// While its turn lasts, a user of whom this proxy has connections there gets a further one: a session that is to leave may need a watch of its
// mailbox for that. The user is asked to leave once more then. Connections that were closed, and whose end isn't seen yet, give no such right.
func (m *Member) ClaimAt(user, backend string, now time.Time) Answer {
	m.at(now)
	h := m.holds[user]
	if h != nil && m.phase == inside && !m.isolated && h.conns > h.ending && m.places.ids[h.at] == backend && m.leavesInTurn(h) {
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

// again is a further connection of a user of whom there are some.
func (m *Member) again(h *hold, home string) Answer {
	bucket := int(h.bucket)
	switch {
	case m.o.Storage == routing.Separate && home != "" && m.override(h.user) == "" && home != m.places.ids[h.at] && !m.named[h.user]:
		m.effect(Effect{Kind: LetGo, User: h.user, Backend: m.places.ids[h.at], Text: "the placement has changed"})
		return wait("the user's placement has changed")
	case m.wantsOverride(h.user, home, bucket):
		return wait("the user's placement is being made known")
	case m.open(h.user, bucket, h.at):
		return wait("the user is being moved")
	}
	if _, asked := m.yielding[h.user]; asked {
		return wait("the user is being moved")
	}
	h.conns++
	return Answer{Verdict: Go, Backend: m.places.ids[h.at]}
}

// goHome is a claim with separate storage for a user without an override. Nothing but the placement says where the
// user is, so there is nothing to agree on.
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

// Release says that a connection of the user has ended: the server's answer to LOGOUT or the end of the stream was seen, or the
// dial failed, or the socket was closed after an Effect with Abort. There is one for each claim that was told Go.
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

// Ending says that a connection of the user was closed, and its end isn't seen yet. It counts, and Ended comes in place of Release.
func (m *Member) Ending(user string, now time.Time) {
	m.at(now)
	if h := m.holds[user]; h != nil {
		h.ending++
	}
}

// Ended is Release for a connection that was said to be Ending.
func (m *Member) Ended(user string, now time.Time) {
	if h := m.holds[user]; h != nil && h.ending > 0 {
		h.ending--
	}
	m.Release(user, now)
}

// hasStay reports whether this proxy has published a stay that may be the user's.
func (m *Member) hasStay(user string, bucket int) bool {
	for _, r := range []*Record{m.own, m.pending} {
		if r == nil {
			continue
		}
		if _, ok := r.Users[user]; ok || r.stay(bucket) != "" {
			return true
		}
	}
	return false
}

// goodName: a name that a record can carry unchanged.
func goodName(user string) bool {
	if user == "" || len(user) > maxName {
		return false
	}
	for i := range len(user) {
		if c := user[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(user)
}

// override is what the fleet's overrides say of the user.
func (m *Member) override(user string) string {
	users := m.overrides[shardOf(user)]
	if len(users) == 0 {
		return ""
	}
	return users[user]
}

// special: the user may be a unit of their own.
func (m *Member) special(user string) bool { return m.named[user] || m.override(user) != "" }

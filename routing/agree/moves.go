package agree

import (
	"slices"
	"time"

	"imapproxy/routing"
)

// Rule 7. Users who aren't where choice says are moved a bucket at a time, in the order and at the rate that
// the fleet says, so that all proxies let go of one bucket at about the same time. While a bucket's turn
// lasts (AgreeWithin), its users are asked to leave, their claims wait, and no stay is followed. A bucket
// whose users couldn't all leave stays where it is until its next turn.
//
// A backend that an operator drains has its own schedule in the fleet, and may have a deadline after which
// the sessions that are left are ended.
//
// Users at a backend that is down are asked at once. If the fleet has called it down for FailoverAfter,
// their sockets are aborted, which counts as the end of their connections.

// retryCycle bounds the Cycle of the rounds after the first: most users have left in the first round.
const retryCycle = int64(2 * time.Minute / time.Millisecond)

// turn returns in which round of the schedule a bucket is, and for how long its turn has lasted. Round 0:
// its first turn hasn't begun.
func (m *Move) turn(bucket, buckets int, now time.Time) (round int64, since time.Duration) {
	at := now.UnixMilli() - m.Begin
	again := min(m.Cycle, retryCycle)
	later := at - m.Cycle - m.Pause - again*int64(bucket)/int64(buckets)
	at -= m.Cycle * int64(bucket) / int64(buckets)
	switch every := again + m.Pause; {
	case at < 0:
		return 0, 0
	case later < 0 || every <= 0:
		return 1, time.Duration(at) * time.Millisecond
	default:
		return 2 + later/every, time.Duration(later%every) * time.Millisecond
	}
}

// End returns when the last bucket of the first round has its turn, to show progress.
func (m *Move) End() time.Time {
	if m.Settle {
		return time.UnixMilli(m.Begin + m.Cycle)
	}
	return time.UnixMilli(m.Begin + max(m.Cycle, m.Slow))
}

// open reports whether the user is asked to leave the backend now, as a user or with the bucket.
func (m *Member) open(user string, bucket int, at place) bool {
	if !m.leaves(user, bucket, at) {
		return false
	}
	if !m.special(user) {
		user = ""
	}
	_, open := m.due(user, bucket, at)
	return open
}

// barred reports whether the user's claims wait, and their stay isn't followed, since they are asked to leave now.
func (m *Member) barred(user string, bucket int, at place) bool {
	return m.has(ruleTurn) && m.open(user, bucket, at)
}

// leaves reports whether the user belongs at another backend.
func (m *Member) leaves(user string, bucket int, at place) bool {
	choice := m.tables[len(m.tables)-1].choice[bucket]
	switch {
	case m.special(user):
		choice = m.userChoice(len(m.tables)-1, user, bucket, "")
	case m.separate():
		return false
	}
	return choice != 0 && choice != at && !m.isolated && m.own != nil
}

// lingers reports whether the user was asked to leave a short while ago, and still is to be elsewhere. If all of
// the user's connections were closed, no claim goes back then, also after the turn. Otherwise a person who keeps
// guessing the user's password could keep the user at the backend: a guess counts as a connection until the
// backend refuses it, for up to 15 s.
func (m *Member) lingers(user string, bucket int, at place) bool {
	asked, ok := m.lately[user]
	return ok && m.now.Sub(asked) < m.lingerFor() && m.leaves(user, bucket, at)
}

func (m *Member) lingerFor() time.Duration { return 2 * m.o.AgreeWithin }

// forgetAsked removes the users who were asked to leave a longer while ago, once a second.
func (m *Member) forgetAsked() {
	if m.now.Before(m.forgetAt) {
		return
	}
	m.forgetAt = m.now.Add(time.Second)
	for user, asked := range m.lately {
		if m.now.Sub(asked) >= m.lingerFor() {
			delete(m.lately, user)
		}
	}
}

// due returns in which round the turn of a stay is now, and whether its users are asked to leave now. user
// is "" for the stay of a bucket. The cases, in order:
//
//	the backend is down, or its drain's time is over     at once, and again each second
//	a user that an operator has moved                    at once when the override came
//	a user named while their bucket rests, with Settle   never, while the backend is up
//	a bucket at a drained backend                        by the drain's schedule
//	a user at a drained one, with a stay of their own    when the bucket had its turn
//	a bucket at a backend that is up                     by Slow; never with Settle
//	a bucket at any other backend                        by Cycle
//
// For a user's own stay, each round after the first begins a Pause after the one before.
func (m *Member) due(user string, bucket int, at place) (round int64, open bool) {
	id := m.places.ids[at]
	move, kind := m.turns(user, bucket, id)
	switch kind {
	case never:
		return 0, false
	case always:
		return 1 + m.now.UnixMilli()/1000, true
	}
	round, since := move.turn(bucket, m.o.Buckets, m.now)
	return round, round > 0 && since < m.o.AgreeWithin && m.agreed(user, bucket)
}

// turns returns the schedule that due goes by.
func (m *Member) turns(user string, bucket int, id string) (Move, turnKind) {
	move := m.fleet.Move
	b, d := m.fleet.backend(id), m.fleet.drain(id)
	if d != nil && d.Begin == 0 {
		d = nil // its schedule hasn't begun
	}
	switch {
	case b == nil || b.State == routing.Down || d != nil && d.over(bucket, m.o.Buckets, m.now):
		return move, always
	case user != "" && move.Settle && b.State == routing.Up && m.rests[user] && !m.moved(user, id):
		return move, never
	case user != "" && (d == nil || m.moved(user, id)):
		move.Begin, move.Cycle = move.Users, 0
	case d != nil && user != "":
		move.Begin, move.Cycle = d.Begin+d.Cycle*int64(bucket)/int64(m.o.Buckets), 0
	case d != nil:
		move.Begin, move.Cycle = d.Begin, d.Cycle
	case b.State == routing.Up && move.Settle:
		return move, never
	case b.State == routing.Up:
		move.Cycle = move.Slow
	}
	return move, byTurns
}

type turnKind uint8

const (
	byTurns turnKind = iota
	always
	never
)

// atRest reports whether the users of a stay are left where they are until they have no connection.
func (m *Member) atRest(user string, bucket int, at place) bool {
	_, kind := m.turns(user, bucket, m.places.ids[at])
	return kind == never
}

// mayName reports whether the record may name the users of a bucket at rest in place of the bucket. All proxies that
// have the bucket's stay have to name theirs before a user without connections may leave, so they begin with the same buckets. A
// bucket that was named, and that was followed to another proxy since, isn't named again for nameAgain. The names of
// all proxies are read by each one at each change: the more proxies, the fewer names.
func (m *Member) mayName(bucket int, rec *Record) bool {
	room := fullNames * 3 / 4 // the rest is for buckets that are being moved
	if m.latest != nil && len(m.latest.Proxies) > 0 {
		room = min(room, allNames/len(m.latest.Proxies))
	}
	named, ok := m.namedAt[bucket]
	return len(rec.Users) < room && (!ok || m.now.Sub(named) >= nameAgain)
}

// changedLately reports whether an override of the user came or went with one of the fleets that are kept.
func (m *Member) changedLately(user string) bool {
	for _, t := range m.tables[1:] {
		if slices.ContainsFunc(t.Changes, func(c Change) bool { return c.User == user }) {
			return true
		}
	}
	return false
}

// moved reports whether an override sends the user to a backend other than id that is up.
func (m *Member) moved(user, id string) bool {
	over := m.override(user)
	return over != "" && over != id && m.fleet.newest().up(over)
}

// late reports whether the second half of a bucket's turn has begun.
func (m *Member) late(bucket int, at place) bool { return m.lateIn("", bucket, at) }

// lateFor is late for the turn of a user, or of the user's bucket.
func (m *Member) lateFor(h *hold) bool {
	user := ""
	if m.special(h.user) {
		user = h.user
	}
	return m.lateIn(user, int(h.bucket), h.at)
}

func (m *Member) lateIn(user string, bucket int, at place) bool {
	move, kind := m.turns(user, bucket, m.places.ids[at])
	switch kind {
	case never:
		return false
	case always:
		return m.now.Sub(m.switched) > m.o.AgreeWithin/2
	}
	round, since := move.turn(bucket, m.o.Buckets, m.now)
	return round > 0 && since >= m.o.AgreeWithin/2 && since < m.o.AgreeWithin
}

// leavesInTurn reports whether the user is asked to leave now because it is their turn: the backend isn't
// down, the time of its drain isn't over, and no other proxy has the user elsewhere.
func (m *Member) leavesInTurn(h *hold) bool {
	if _, yields := m.yielding[h.user]; yields || m.fleet == nil {
		return false
	}
	m.judge()
	bucket := int(h.bucket)
	if !m.open(h.user, bucket, h.at) {
		return false
	}
	user := ""
	if m.special(h.user) {
		user = h.user
	}
	_, kind := m.turns(user, bucket, m.places.ids[h.at])
	return kind == byTurns
}

// askAnew schedules that the user is asked after a second; each further time takes twice as long.
func (m *Member) askAnew(user string) {
	a := m.anew[user]
	if a.at.IsZero() {
		m.anew[user] = anew{m.now.Add(time.Second << min(a.times, 10)), a.times + 1}
	}
}

// asksAnew asks the users whose time, which askAnew has set, has come.
func (m *Member) asksAnew() {
	for user, a := range m.anew {
		switch h := m.holds[user]; {
		case h == nil || !m.leavesInTurn(h):
			delete(m.anew, user)
		case !a.at.IsZero() && !m.now.Before(a.at):
			m.anew[user] = anew{times: a.times}
			m.ask(h)
		}
	}
}

// moves asks the users of the stays whose turn it is to leave, once in each round.
func (m *Member) moves() {
	m.asksAnew()
	m.forgetAsked()
	m.endTurns()
	if m.isolated || m.own.Acked != m.fleet.Epoch || len(m.own.Buckets) == 0 && len(m.own.Users) == 0 {
		return
	}
	m.judge()
	for id, buckets := range m.own.Buckets {
		at := m.places.of(id)
		for b := range buckets.All {
			if b >= len(m.heads) {
				continue
			}
			round, open := m.due("", b, at)
			if !open || m.asked[b] == round || m.tables[len(m.tables)-1].choice[b] == 0 {
				continue
			}
			m.asked[b] = round
			m.version++
			m.beginTurn()
			for h := m.heads[b]; h != nil; h = h.next {
				if h.at == at && m.inBucket(m.own, h.user) {
					m.ask(h)
				}
			}
		}
	}
	for user, id := range m.own.Users {
		h := m.holds[user]
		b := m.bucket(user)
		if h == nil || !m.open(user, b, m.places.of(id)) {
			continue
		}
		if round, _ := m.due(user, b, h.at); m.askedOf[user] != round {
			m.askedOf[user] = round
			m.version++
			m.beginTurn()
			m.ask(h)
		}
	}
}

// beginTurn notes when the turn that begins now ends. Claims that wait for it are made again then: users who
// couldn't leave go on where they are.
func (m *Member) beginTurn() {
	end := m.now.Add(m.o.AgreeWithin)
	if n := len(m.turnEnds); n == 0 || end.Sub(m.turnEnds[n-1]) > turnsApart {
		m.turnEnds = append(m.turnEnds, end.Add(turnsApart))
	}
}

// turnsApart is how close the ends of turns may be to be noticed together.
const turnsApart = 50 * time.Millisecond

func (m *Member) endTurns() {
	n := 0
	for n < len(m.turnEnds) && m.turnEnds[n].Before(m.now) {
		n++
	}
	if n > 0 {
		m.turnEnds = slices.Delete(m.turnEnds, 0, n)
		m.version++
	}
}

// ask produces the effect that lets go of a user.
func (m *Member) ask(h *hold) {
	id := m.places.ids[h.at]
	m.lately[h.user] = m.now
	down, known := m.down[id]
	abort := known && m.now.Sub(down) >= m.o.Policy.FailoverAfter && m.has(ruleAbort)
	m.effect(Effect{Kind: LetGo, User: h.user, Backend: id, Abort: abort, Text: "the user is being moved"})
	if d := m.fleet.drain(id); d != nil && d.Begin != 0 && d.over(int(h.bucket), m.o.Buckets, m.now) {
		if known := m.drains[id]; known != nil && len(known.ended) < maxEnded {
			known.ended[h.user] = true
		}
		m.effect(Effect{Kind: End, User: h.user, Backend: id, Text: "the drain's time is over"})
	}
}

const maxEnded = 100_000 // users who are counted as ended by a drain

package agree

import (
	"time"

	"imapproxy/routing"
)

// Rule 7. Users who aren't where choice says are moved: a bucket at a time, in the order and at the rate that the fleet record
// says, so that all proxies let go of one bucket at about the same time. While its turn lasts (AgreeWithin) its users are asked
// to leave and their claims wait; nobody follows. Whoever couldn't leave keeps the bucket where it is until its next turn.
//
// A backend that is down isn't worth staying at: its users are asked at once. Where the fleet has called it down for
// FailoverAfter, their sockets are aborted, which counts as their end (correction F).

// turn says in which round of the schedule a bucket is, and since when. Round 0 has not begun.
func (m *Move) turn(bucket, buckets int, now time.Time) (round int64, since time.Duration) {
	at := now.UnixMilli() - m.Begin - m.Cycle*int64(bucket)/int64(buckets)
	if at < 0 {
		return 0, 0
	}
	every := m.Cycle + m.Pause
	if every <= 0 {
		return 1, time.Duration(at) * time.Millisecond
	}
	return 1 + at/every, time.Duration(at%every) * time.Millisecond
}

// End is when the last bucket of the first round has had its turn, for who shows progress.
func (m *Move) End() time.Time { return time.UnixMilli(m.Begin + m.Cycle) }

// open reports whether a user, or the user's bucket, is asked to leave the place now.
func (m *Member) open(user string, bucket int, at place) bool {
	choice := m.tables[len(m.tables)-1].choice[bucket]
	special := m.special(user)
	switch {
	case special:
		choice = m.userChoice(len(m.tables)-1, user, bucket, "")
	case m.separate():
		return false
	}
	if choice == 0 || choice == at || m.isolated || m.own == nil {
		return false
	}
	_, open := m.due(bucket, at, special)
	return open
}

// due says in which round a stay's turn is now, and whether it is.
func (m *Member) due(bucket int, at place, ofUser bool) (round int64, open bool) {
	move := m.fleet.Move
	id := m.places.ids[at]
	b := m.fleet.backend(id)
	switch {
	case b == nil || b.State == routing.Down: // at once, and again each second
		return 1 + m.now.UnixMilli()/1000, true
	case b.State == routing.Up && move.Settle && !ofUser:
		return 0, false
	case ofUser: // an operator waits for it
		move.Begin, move.Cycle = move.Users, 0
	}
	round, since := move.turn(bucket, m.o.Buckets, m.now)
	return round, round > 0 && since < m.o.AgreeWithin
}

// late: a bucket's turn is half over.
func (m *Member) late(bucket int, at place) bool {
	if b := m.fleet.backend(m.places.ids[at]); b == nil || b.State == routing.Down {
		return m.now.Sub(m.switched) > m.o.AgreeWithin/2
	}
	round, since := m.fleet.Move.turn(bucket, m.o.Buckets, m.now)
	_, open := m.due(bucket, at, false)
	return open && round > 0 && since >= m.o.AgreeWithin/2
}

// moves asks the users of stays whose turn it is to leave, once in each round.
func (m *Member) moves() {
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
			round, open := m.due(b, at, false)
			if !open || m.asked[b] == round || m.tables[len(m.tables)-1].choice[b] == 0 {
				continue
			}
			m.asked[b] = round
			m.version++
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
		if round, _ := m.due(b, h.at, true); m.askedOf[user] != round {
			m.askedOf[user] = round
			m.version++
			m.ask(h)
		}
	}
}

// ask tells the proxy to let go of a user.
func (m *Member) ask(h *hold) {
	id := m.places.ids[h.at]
	down, known := m.down[id]
	abort := known && m.now.Sub(down) >= m.o.Policy.FailoverAfter
	m.effect(Effect{Kind: LetGo, User: h.user, Backend: id, Abort: abort, Text: "the user is being moved"})
}

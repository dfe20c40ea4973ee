package agree

import "imapproxy/routing"

// hold is a user of whom this proxy has connections, or dials under way.
type hold struct {
	user       string
	at         place
	bucket     int32
	conns      int32
	ending     int32 // of these, those that were closed, and whose end isn't seen yet
	next, prev *hold // in the bucket
}

func (m *Member) bucket(user string) int { return routing.Bucket(user) % m.o.Buckets }

// take begins a hold, or adds a connection to it.
func (m *Member) take(user string, bucket int, at place) {
	h := m.holds[user]
	if h == nil {
		if h = m.free; h != nil {
			m.free = h.next
		} else {
			h = new(hold)
		}
		*h = hold{user: user, at: at, bucket: int32(bucket), next: m.heads[bucket]}
		if h.next != nil {
			h.next.prev = h
		}
		m.heads[bucket] = h
		m.holds[user] = h
		for len(m.usersAt) <= int(at) {
			m.usersAt = append(m.usersAt, 0)
		}
		m.usersAt[at]++
	}
	h.conns++
}

// drop takes a connection off a hold, which ends with the last one.
func (m *Member) drop(h *hold) {
	if h.conns--; h.conns > 0 {
		return
	}
	if h.next != nil {
		h.next.prev = h.prev
	}
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		m.heads[h.bucket] = h.next
	}
	m.usersAt[h.at]--
	delete(m.holds, h.user)
	delete(m.yielding, h.user)
	*h = hold{next: m.free}
	m.free = h
}

// inBucket reports whether a bucket's stay is for the user.
func (m *Member) inBucket(r *Record, user string) bool {
	_, own := r.Users[user]
	return !own && m.override(user) == ""
}

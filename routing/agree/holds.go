package agree

import "imapproxy/routing"

func (m *Member) bucket(user string) int { return routing.Bucket(user) % m.o.Buckets }

// take begins a hold for the user, or adds a connection to the user's hold.
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

// drop removes a connection from a hold. The hold ends with its last connection.
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

// inBucket reports whether the record's stay of the bucket is for the user: the user has neither a stay of
// their own nor an override.
func (m *Member) inBucket(r *Record, user string) bool {
	_, own := r.Users[user]
	return !own && m.override(user) == ""
}

// override returns the user's override in this proxy's fleet, "" if there is none.
func (m *Member) override(user string) string {
	users := m.overrides[shardOf(user)]
	if len(users) == 0 {
		return ""
	}
	return users[user]
}

// special reports whether the user may have to be judged apart from the bucket.
func (m *Member) special(user string) bool { return m.named[user] || m.override(user) != "" }

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

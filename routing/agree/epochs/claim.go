package main

// claim is rules 2 and 3: what a proxy may do for a user without connections of this proxy. A good reading is
// one whose fleet is the one that the proxy's own key acks in the reading; a current reading is of the fleet
// that the proxy goes by and has acked. The cases, in order:
//
//	its own stay of the user                                 it goes back, if it has acked its fleet
//	the reading isn't good, or is void                       it waits
//	another proxy has a stay of the user                     it follows, by a current reading
//	some fleets that proxies go by have an override of the
//	user, and some have none                                 it waits
//	its own stay of the bucket                               it goes back, by a current reading
//	another proxy has a stay of the bucket                   it follows, by a current reading
//	the choice differs between those fleets                  it waits
//	else                                                     it goes where the function says
//
// Stays of the bucket are for users without an override.
func (m *model) claim(s *state, i, user int, step step) {
	p, own, r := &s.proxies[i], &s.records[i], &s.proxies[i].read
	if p.holds[user] != none {
		return
	}
	acked := own.acked == p.epoch
	if p.pin[user] != none && acked {
		step("goes by its pin", user, func(_ *state, p *proxy, _ *record) { p.holds[user] = p.pin[user] })
	}
	goes := func(why string, to backend) {
		step(why, user, func(_ *state, p *proxy, _ *record) { p.holds[user] = to })
	}
	inBucket := m.over(p.epoch, user) == none
	switch {
	case own.user[user] != none && acked:
		goes("goes back", own.user[user])
		return
	case own.user[user] != none:
		return
	}
	good := r.have && !p.void[user] && (r.epoch == r.records[i].acked || m.lacks(ruleReading))
	if !good {
		return
	}
	current := acked && (r.epoch == p.epoch || m.lacks(ruleReading))
	follow := func(of func(*record) *backend) (any bool) {
		for j := range m.proxies {
			b := *of(&r.records[j])
			if j == i || b == none {
				continue
			}
			any = true
			if current && (s.records[j] == r.records[j] || m.lacks(ruleFollow)) {
				step("follows", user, func(_ *state, p *proxy, own *record) {
					p.holds[user], *of(own) = b, b
				})
			}
		}
		return any
	}
	ofUser := func(r *record) *backend { return &r.user[user] }
	bucketSays := func() bool {
		switch {
		case !inBucket:
			return false
		case own.bucket != none && current:
			goes("goes back", own.bucket)
			return true
		case own.bucket != none:
			return true
		}
		return follow(func(r *record) *backend { return &r.bucket })
	}
	if m.lacks(ruleUserFirst) && bucketSays() {
		return
	}
	if r.records[i].user[user] != none || follow(ofUser) {
		return
	}
	lowest := r.lowest(p.epoch)
	if !m.lacks(ruleSteady) && !m.steady(lowest, p.epoch, user) {
		return
	}
	if bucketSays() {
		return
	}
	if m.lacks(ruleAll) || m.unmoved(lowest, p.epoch, user) {
		goes("claims", m.choice(p.epoch, user))
	}
}

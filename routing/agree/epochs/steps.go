package main

// next calls give with all states that one step leads to from s.
func (m *model) next(s *state, give give) {
	if s.epoch < m.last && s.records != [maxProxies]record{} {
		t := *s
		t.epoch++
		give(did{-1, -1, "a new fleet"}, t)
	}
	for i := range m.proxies {
		m.steps(s, i, func(what string, user int, change func(t *state, p *proxy, own *record)) {
			t := *s
			change(&t, &t.proxies[i], &t.records[i])
			give(did{int8(i), int8(user), what}, t)
		})
	}
}

func (m *model) steps(s *state, i int, step step) {
	p, own := &s.proxies[i], &s.records[i]
	ends := func() {
		step("is taken for dead: its key is removed", -1, func(_ *state, _ *proxy, own *record) { *own = record{} })
	}
	switch {
	case !p.alive && *own != record{}:
		ends()
		return
	case !p.alive:
		step("reads the fleet, to join", -1, func(t *state, p *proxy, _ *record) {
			*p = proxy{alive: true, joins: true, epoch: t.epoch}
		})
		return
	case p.joins:
		if s.epoch == p.epoch || m.lacks(ruleJoin) {
			step("joins", -1, func(_ *state, p *proxy, own *record) { p.joins, own.acked = false, p.epoch })
		}
		step("reads the fleet again", -1, func(t *state, p *proxy, _ *record) { p.epoch = t.epoch })
		step("crashes", -1, func(_ *state, p *proxy, _ *record) { *p = proxy{} })
		return
	}
	if m.lacks(ruleDeath) && own.acked != 0 {
		ends() // although it lives
	}
	// A reading that isn't good never becomes good, so it isn't kept.
	if now := (reading{true, s.epoch, s.records}); (p.read != now || p.void != [users]bool{}) && (own.acked == s.epoch || m.lacks(ruleReading)) {
		step("reads", -1, func(_ *state, p *proxy, _ *record) { p.read, p.void = now, [users]bool{} })
	}
	if s.epoch > p.epoch {
		step("switches", -1, func(t *state, p *proxy, _ *record) { p.epoch = t.epoch })
	}
	if own.acked != 0 && own.acked < p.epoch {
		step("acks", -1, func(_ *state, p *proxy, own *record) { *own = m.switched(p, *own) })
	}
	for user := range users {
		m.claim(s, i, user, step)
		if p.holds[user] != none {
			step("closes all", user, func(_ *state, p *proxy, _ *record) { p.holds[user] = none })
		}
	}
	if own.acked == p.epoch {
		m.letGo(p, own, step)
	}
	step("crashes, or holds", -1, func(_ *state, p *proxy, _ *record) { *p = proxy{} })
}

// switched is rule 1: the record that acks the proxy's epoch.
//
// A user gets a stay of their own, apart from the bucket's, in three cases:
//   - the user had a stay of their own, which hasn't been let go of;
//   - the user has had an override since the epoch acked last, and has none in this one: the user gets a stay
//     wherever they are, since otherwise a stay of the bucket, this proxy's or another's, would apply to them
//     from now on;
//   - the user has an override and isn't at its backend.
func (m *model) switched(p *proxy, old record) record {
	now := record{acked: p.epoch}
	if m.lacks(ruleStays) {
		return now
	}
	bucket := old.bucket
	for user, at := range p.holds {
		over := m.over(p.epoch, user)
		changed := !m.steady(old.acked, p.epoch, user)
		switch {
		case old.user[user] != none:
			now.user[user] = old.user[user]
		case at == none:
		case over != none && at != over && !m.lacks(ruleOverrideAdded):
			now.user[user] = at
		case over == none && changed && !m.lacks(ruleOverrideRemoved):
			now.user[user] = at
		case over == none && at != m.bucket[p.epoch]:
			bucket = at
		}
	}
	if bucket != m.bucket[p.epoch] {
		now.bucket = bucket
	}
	return now
}

// letGo is rule 4, and what rule 7 says of few users of a bucket: a stay is taken out when the proxy has no
// connection that it is for.
func (m *model) letGo(p *proxy, own *record, step step) {
	gone := func(p *proxy, user int, at backend) {
		p.void[user] = !m.lacks(ruleVoid)
		if m.lacks(rulePin) {
			p.pin[user] = at
		}
	}
	inBucket := false // some user has connections for which the bucket's stay is
	for user, at := range p.holds {
		if own.user[user] != none && at == none {
			step("lets go of the user", user, func(_ *state, p *proxy, own *record) {
				gone(p, user, own.user[user])
				own.user[user] = none
			})
		}
		if own.user[user] == none && at != none && m.over(p.epoch, user) == none {
			inBucket = true
		}
	}
	if own.bucket == none {
		return
	}
	if !inBucket {
		step("lets go of the bucket", -1, func(_ *state, p *proxy, own *record) {
			for user := range users {
				gone(p, user, own.bucket)
			}
			own.bucket = none
		})
		return
	}
	step("names its users in place of the bucket", -1, func(_ *state, p *proxy, own *record) {
		for user, at := range p.holds {
			if own.user[user] == none && at != none && m.over(p.epoch, user) == none {
				own.user[user] = at
			}
			gone(p, user, own.bucket)
		}
		own.bucket = none
	})
}

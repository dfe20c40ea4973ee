package main

import (
	"fmt"
	"slices"
)

const (
	maxProxies = 3
	maxEpochs  = 4

	moved = 0 // the user that overrides move
	plain = 1 // the other user of the bucket
	users = 2
)

type backend int8

const (
	none backend = iota
	x
	y
	z
)

func (b backend) String() string { return string("-xyz"[b]) }

// scenario is a sequence of fleets, by epoch from 1 on: where each fleet sends the bucket, and its override
// of the user that overrides move.
type scenario struct {
	bucket, override [maxEpochs + 1]backend
}

// over returns the override that epoch e has of the user.
func (s *scenario) over(e int8, user int) backend {
	if user == moved {
		return s.override[e]
	}
	return none
}

func (s *scenario) choice(e int8, user int) backend {
	if b := s.over(e, user); b != none {
		return b
	}
	return s.bucket[e]
}

// steady reports whether all fleets from..to have an override of the user, or none has.
func (s *scenario) steady(from, to int8, user int) bool {
	for e := from; e <= to; e++ {
		if (s.over(e, user) == none) != (s.over(to, user) == none) {
			return false
		}
	}
	return true
}

// unmoved reports whether choice is the same in all fleets from..to.
func (s *scenario) unmoved(from, to int8, user int) bool {
	for e := from; e <= to; e++ {
		if s.choice(e, user) != s.choice(to, user) {
			return false
		}
	}
	return true
}

func (s *scenario) text(last int8) string {
	text := ""
	for e := int8(1); e <= last; e++ {
		text += fmt.Sprintf(" %v", s.bucket[e])
		if s.override[e] != none {
			text += fmt.Sprintf("(user: %v)", s.override[e])
		}
	}
	return text
}

// record is the value of a key proxies/ID; acked is 0 where there is no key.
type record struct {
	acked  int8
	bucket backend        // the bucket's stay
	user   [users]backend // users' own stays
}

// reading is the result of one read of the prefix.
type reading struct {
	have    bool
	epoch   int8
	records [maxProxies]record
}

type proxy struct {
	alive bool
	joins bool           // it has read the fleet, and hasn't written its key yet
	epoch int8           // the epoch that it has switched to
	holds [users]backend // where it has connections of each user
	pin   [users]backend // where each user was: used only without the rule `pin`
	read  reading        // its last reading, however old
	void  [users]bool    // the reading is void for the user
}

// state is the state of all proxies and of Consul. It is comparable.
type state struct {
	proxies [maxProxies]proxy
	epoch   int8 // of the key `fleet`
	records [maxProxies]record
}

type model struct {
	scenario
	proxies int
	last    int8
	without []rule
}

func (m *model) lacks(r rule) bool { return slices.Contains(m.without, r) }

func (m *model) start() state {
	s := state{epoch: 1}
	for i := range m.proxies {
		s.proxies[i], s.records[i] = proxy{alive: true, epoch: 1}, record{acked: 1}
	}
	return s
}

// lowest returns the lowest epoch that a proxy of the reading has acked, e at most.
func (r *reading) lowest(e int8) int8 {
	for _, p := range r.records {
		if p.acked != 0 && p.acked < e {
			e = p.acked
		}
	}
	return e
}

// parted reports whether a user is on two backends.
func (s *state) parted() bool {
	for user := range users {
		at := none
		for _, p := range s.proxies {
			if p.holds[user] == none {
				continue
			}
			if at != none && at != p.holds[user] {
				return true
			}
			at = p.holds[user]
		}
	}
	return false
}

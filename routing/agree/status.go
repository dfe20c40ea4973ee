package agree

import (
	"slices"
	"strings"
	"time"

	"imapproxy/routing"
)

// Status is what operators are shown of this proxy's part.
type Status struct {
	State    string // "joining", "joined", "isolated", "leaving", "left"
	Epoch    uint64 // of the fleet that it goes by
	Acked    uint64
	Renewed  time.Time // when the last successful renewal was sent
	Deadline time.Time
	Users    int // with connections of this proxy
	Stays    int // buckets and users that aren't where the fleet sends them
	Resting  int // those of them that are left where they are until they have no connection (Move.Settle)
	Waiting  int // users whose stay at another proxy is to be followed
	Outage   time.Time
	Proxies  []ProxyStatus
	MovesEnd time.Time // when the last bucket's turn is; zero: nothing is being moved, or what isn't moved rests
	Drains   []DrainStatus
	Pauses   []Pause // those that are over, too
	// WaitsFor are the ids of the proxies that don't know yet, by backend, that a backend isn't up; "" stands for a proxy whose key this release
	// can't read. No user is asked to leave the backend before they do, or aren't there any more.
	WaitsFor map[string][]string
	// Overrides is the number of users with an override.
	Overrides int
	// At is the number of users with connections of this proxy, by backend.
	At map[string]int
	// MoveRate and RebalanceRate are the policy's.
	MoveRate, RebalanceRate float64
}

// DrainStatus is the progress of a drain at this proxy.
type DrainStatus struct {
	Drain
	// Users is the number of users with connections of this proxy to the backend; Start was their number
	// at From, when this proxy first went by the drain.
	Users, Start int
	From         time.Time
	// Ends is when the last bucket has its first turn; zero: the schedule hasn't begun.
	Ends time.Time
	// Ended is the number of users whose sessions have been ended since the drain's deadline.
	Ended int
}

// drainStatus returns the fleet's drains, as this proxy sees them.
func (m *Member) drainStatus() (all []DrainStatus) {
	for _, d := range m.fleet.Drains {
		s := DrainStatus{Drain: d, Users: m.usersOn(d.Backend)}
		if known := m.drains[d.Backend]; known != nil {
			s.Start, s.From, s.Ended = known.users, known.from, len(known.ended)
		}
		if d.Begin != 0 {
			s.Ends = time.UnixMilli(d.Begin + d.Cycle)
		}
		all = append(all, s)
	}
	return all
}

// ProxyStatus is what a proxy's key says of it.
type ProxyStatus struct {
	ID          string
	About       About
	Acked       uint64
	Stays       int
	Unreachable []string
	// Session says that the proxy's Consul session lives. If it has ended, Dead is when the key is removed,
	// by this proxy's clock.
	Session bool
	Dead    time.Time
}

// Status returns the status for admin pages and the command line.
func (m *Member) Status(now time.Time) Status {
	m.at(now)
	s := Status{Renewed: m.renewed, Users: len(m.holds), Waiting: len(m.wants), Outage: m.outage, At: make(map[string]int), MoveRate: m.o.Policy.MoveRate, RebalanceRate: max(0, m.o.Policy.RebalanceRate)}
	for at, n := range m.usersAt {
		if n > 0 {
			s.At[m.places.ids[at]] = n
		}
	}
	s.State = [...]string{outside: "joining", inside: "joined", leaving: "leaving", left: "left"}[m.phase]
	if m.isolated && m.phase != left {
		s.State = "isolated"
	}
	if !m.renewed.IsZero() {
		s.Deadline = m.Deadline()
	}
	if m.fleet != nil {
		s.Epoch, s.Drains, s.Pauses, s.Overrides = m.fleet.Epoch, m.drainStatus(), m.fleet.Pauses, m.countOverrides()
	}
	s.WaitsFor = m.waitsFor()
	if m.own != nil {
		s.Acked, s.Stays, s.Resting = m.own.Acked, stays(m.own), m.resting(m.own)
	}
	if m.latest != nil {
		for _, p := range m.latest.Proxies {
			one := ProxyStatus{ID: p.ID, About: p.About, Acked: p.Acked, Stays: stays(p.Record), Unreachable: p.Unreachable, Session: p.Session != ""}
			if o, ok := m.orphans[p.ID]; ok {
				one.Dead = o.since.Add(max(m.o.TTL, time.Duration(p.TTL)*time.Millisecond))
			}
			if m.fleet != nil && one.Stays > m.resting(p.Record) {
				s.MovesEnd = m.fleet.Move.End()
			}
			s.Proxies = append(s.Proxies, one)
		}
		slices.SortFunc(s.Proxies, func(a, b ProxyStatus) int { return strings.Compare(a.ID, b.ID) })
	}
	return s
}

// waitsFor returns Status.WaitsFor.
func (m *Member) waitsFor() map[string][]string {
	if m.latest == nil || m.fleet == nil {
		return nil
	}
	all := make(map[string][]string)
	for _, b := range m.fleet.Backends {
		if m.fleet.newest().up(b.ID) {
			continue
		}
		for _, p := range m.latest.Proxies {
			i := slices.IndexFunc(m.tables, func(t table) bool { return t.Epoch == p.Acked })
			if p.Acked < m.fleet.Epoch && (i < 0 || m.tables[i].up(b.ID)) {
				all[b.ID] = append(all[b.ID], p.ID)
			}
		}
		if m.latest.Unknown > 0 {
			all[b.ID] = append(all[b.ID], "")
		}
	}
	return all
}

func stays(r *Record) int {
	n := len(r.Users)
	for _, buckets := range r.Buckets {
		for range buckets.All {
			n++
		}
	}
	return n
}

// resting returns the number of a record's stays that rest.
func (m *Member) resting(r *Record) (n int) {
	if m.fleet == nil || !m.fleet.Move.Settle {
		return 0
	}
	for id, buckets := range r.Buckets {
		for b := range buckets.All {
			if m.atRest("", b, m.places.of(id)) {
				n++
			}
		}
	}
	for user, id := range r.Users {
		b := m.fleet.backend(id)
		if b != nil && b.State == routing.Up && !m.moved(user, id) && (m.rests[user] || r != m.own) {
			n++ // why another proxy has named them isn't known
		}
	}
	return n
}

// Fleet returns the fleet that this proxy goes by; nil before it has joined. A fleet is never changed.
func (m *Member) Fleet() *Fleet { return m.fleet }

// Place says where a user is and why, for an operator.
type Place struct {
	Bucket   int
	Choice   string            // where the fleet sends the user
	Override string            // the user's override in the fleet; "": none
	Auto     string            // where the fleet would send the user without an override
	Holds    string            // where this proxy has connections of the user; "": it has none
	Stays    map[string]string // proxy → backend: the stays that proxies have published for the user
}

// Place returns where a user is; home is the placement.
func (m *Member) Place(user, home string, now time.Time) Place {
	m.at(now)
	p := Place{Bucket: m.bucket(user), Stays: make(map[string]string)}
	if h := m.holds[user]; h != nil {
		p.Holds = m.places.ids[h.at]
	}
	if m.fleet == nil {
		return p
	}
	p.Override = m.override(user)
	if p.Auto = m.places.ids[m.tables[len(m.tables)-1].choice[p.Bucket]]; m.separate() {
		p.Auto = home
	}
	p.Choice = m.places.ids[m.userChoice(len(m.tables)-1, user, p.Bucket, home)]
	if m.separate() && p.Override == "" {
		p.Choice = home
	}
	if m.latest != nil {
		for _, proxy := range m.latest.Proxies {
			stay, ok := proxy.Users[user]
			if !ok && p.Override == "" {
				stay = proxy.stay(p.Bucket)
			}
			if stay != "" {
				p.Stays[proxy.ID] = stay
			}
		}
	}
	return p
}

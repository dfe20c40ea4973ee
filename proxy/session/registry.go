package session

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"time"

	"imapproxy/telemetry"
)

// NewRegistry makes a registry without sessions.
func NewRegistry() *Registry {
	r := &Registry{seed: maphash.MakeSeed(), byIP: map[netip.Addr]int{}, byUser: map[string]int{}, first: map[string]*Session{}, guests: map[string]map[*Session]int{}}
	for i := range r.shards {
		r.shards[i].busy, r.shards[i].parked = map[string]*Session{}, map[string]*Session{}
	}
	return r
}

func (r *Registry) shard(id string) *shard { return &r.shards[maphash.String(r.seed, id)%Shards] }

// Admit counts a connection, or returns the limit that it would exceed ("" admits it). backends is how many
// connections to backends are open.
func (r *Registry) Admit(addr netip.Addr, l Limits, backends int) (over string) {
	n, proved := r.total.Add(1), r.Proved()
	switch {
	case l.Connections > 0 && proved >= l.Connections:
		over = "connections"
	case l.Descriptors > 0 && l.left(proved, backends) < 1, l.Crowded(int(n), backends):
		over = "descriptors"
	}
	if over != "" {
		r.total.Add(-1)
		return over
	}
	key := limitKey(addr)
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.PerIP > 0 && r.byIP[key] >= l.PerIP {
		r.total.Add(-1)
		return "per_ip"
	}
	r.byIP[key]++
	return ""
}

// leave undoes the count of Admit.
func (r *Registry) leave(addr netip.Addr) {
	r.total.Add(-1)
	r.mu.Lock()
	defer r.mu.Unlock()
	take(r.byIP, limitKey(addr))
}

// moveAddr counts a session under another address, or returns the limit that it would exceed there ("" moves it).
func (r *Registry) moveAddr(from, to netip.Addr, l Limits) (over string) {
	from, to = limitKey(from), limitKey(to)
	r.mu.Lock()
	defer r.mu.Unlock()
	if from == to {
		return ""
	}
	if l.PerIP > 0 && r.byIP[to] >= l.PerIP {
		return "per_ip"
	}
	take(r.byIP, from)
	r.byIP[to]++
	return ""
}

// admitUser counts a session whose user's password is proved, or returns the limit that it would exceed (""
// admits it).
func (r *Registry) admitUser(user string, l Limits) (over string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case l.PerUser > 0 && r.byUser[user] >= l.PerUser:
		return "per_user"
	case l.Connections > 0 && r.users >= l.Connections:
		return "connections"
	}
	r.byUser[user]++
	r.users++
	return ""
}

// Proved returns how many sessions admitUser has counted and leaveUser hasn't uncounted.
func (r *Registry) Proved() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.users
}

// leaveUser undoes the count of admitUser.
func (r *Registry) leaveUser(user string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	take(r.byUser, user)
	r.users--
}

// enter links a session to the user's other sessions.
func (r *Registry) enter(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if next := r.first[s.user]; next != nil {
		s.next, next.prev = next, s
	}
	r.first[s.user] = s
}

// exit undoes enter, if enter was called.
func (r *Registry) exit(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.prev == nil && r.first[s.user] != s {
		return
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	switch {
	case s.prev != nil:
		s.prev.next = s.next
	case s.next != nil:
		r.first[s.user] = s.next
	default:
		delete(r.first, s.user)
	}
	s.prev, s.next = nil, nil
}

// OfUser returns the user's sessions that have logged in and haven't ended.
func (r *Registry) OfUser(user string) (all []*Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := r.first[user]; s != nil; s = s.next {
		all = append(all, s)
	}
	return all
}

// visits records that a session has, or is about to open, a connection to the mail of owner.
func (r *Registry) visits(s *Session, owner string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.guests[owner] == nil {
		r.guests[owner] = map[*Session]int{}
	}
	r.guests[owner][s]++
}

// leaves undoes visits.
func (r *Registry) leaves(s *Session, owner string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if take(r.guests[owner], s); len(r.guests[owner]) == 0 {
		delete(r.guests, owner)
	}
}

// GuestsOf returns the sessions of other users that have connections to the mail of owner.
func (r *Registry) GuestsOf(owner string) (all []*Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.guests[owner] {
		all = append(all, s)
	}
	return all
}

func take[K comparable](m map[K]int, k K) {
	if _, there := m[k]; !there {
		return
	}
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}

// limitKey returns what counts as one address: an IPv6 client has a /64 to itself.
func limitKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

func (r *Registry) add(s *Session) {
	sh := r.shard(s.id)
	sh.mu.Lock()
	sh.busy[s.id] = s
	sh.mu.Unlock()
	r.counts[None].Add(1)
}

func (r *Registry) remove(s *Session) {
	sh := r.shard(s.id)
	sh.mu.Lock()
	delete(sh.busy, s.id)
	delete(sh.parked, s.id)
	sh.mu.Unlock()
	r.counts[Attachment(s.attachment.Load())].Add(-1)
}

// Find returns the session with an id, nil if there is none.
func (r *Registry) Find(id string) *Session {
	sh := r.shard(id)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if s := sh.busy[id]; s != nil {
		return s
	}
	return sh.parked[id]
}

// Has says whether a session is still in the registry.
func (r *Registry) Has(s *Session) bool { return r.Find(s.id) == s }

func (r *Registry) moved(s *Session, from, to Attachment) {
	r.counts[from].Add(-1)
	r.counts[to].Add(1)
	if from != Parked && to != Parked {
		return
	}
	sh := r.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	// Two goroutines may change the attachment at the same time and get here in the other order, or the
	// session may be gone.
	here, there := sh.busy, sh.parked
	if Attachment(s.attachment.Load()) != Parked {
		here, there = there, here
	}
	if here[s.id] == s {
		delete(here, s.id)
		there[s.id] = s
	}
}

// NoteKick records that a user was kicked, and forgets kicks from before old. A login that began before the
// kick is ended when it becomes a session.
func (r *Registry) NoteKick(user string, now, old time.Time) { r.kicks.note(user, now, old) }

// Total returns how many sessions there are.
func (r *Registry) Total() int64 { return r.total.Load() }

// Count returns how many sessions have the attachment at.
func (r *Registry) Count(at Attachment) int64 { return r.counts[at].Load() }

// Leftover says what is still counted although no session is left, "" if nothing is.
func (r *Registry) Leftover() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.total.Load() == 0 && len(r.byIP)+len(r.byUser)+len(r.guests) == 0 {
		return ""
	}
	return fmt.Sprintf("%d sessions, addresses %v, users %v, guests of %d users", r.total.Load(), r.byIP, r.byUser, len(r.guests))
}

// LoggedIn returns how many sessions have logged in and haven't ended.
func (r *Registry) LoggedIn() (n int64) {
	for a := range r.counts {
		if Attachment(a) != None {
			n += r.counts[a].Load()
		}
	}
	return n
}

// Attachments returns the values of the sessions gauge.
func (r *Registry) Attachments() []telemetry.AttachmentCount {
	out := make([]telemetry.AttachmentCount, len(attachmentNames))
	for i, name := range attachmentNames {
		out[i] = telemetry.AttachmentCount{Attachment: name, Count: r.counts[i].Load()}
	}
	return out
}

// Each calls f for every session, without holding a lock. Sessions that come or go meanwhile may be missed, or
// may have ended.
func (r *Registry) Each(f func(*Session)) { r.Some(func(int) bool { return true }, f) }

// Some is Each without the parked sessions of the shards for which parked returns false.
func (r *Registry) Some(parked func(shard int) bool, f func(*Session)) {
	var batch []*Session
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.RLock()
		for _, s := range sh.busy {
			batch = append(batch, s)
		}
		if parked(i) {
			for _, s := range sh.parked {
				batch = append(batch, s)
			}
		}
		sh.mu.RUnlock()
		for _, s := range batch {
			f(s)
		}
		clear(batch)
		batch = batch[:0]
	}
}

// show sets the attachment and reports the change to metrics, log and admin page. Ended is never replaced.
func (s *Session) show(to Attachment) {
	from := Attachment(s.attachment.Load())
	for ; from != to && from != Ended; from = Attachment(s.attachment.Load()) {
		if to == Ended { // stored first: a reader that sees Ended reads endedAs at once
			s.endedAs.Store(uint32(from))
		}
		if s.attachment.CompareAndSwap(uint32(from), uint32(to)) {
			break
		}
	}
	if from == to || from == Ended { // the phase that parks or resumes the session meanwhile learns of the end from Reason
		return
	}
	s.env.Registry.moved(s, from, to)
	s.env.Telemetry.AttachmentChanged(s.id, from.String(), to.String())
}

// Failures returns the last failures of a user, the latest first.
func (r *Registry) Failures(user string) []Failure {
	r.failures.mu.Lock()
	defer r.failures.mu.Unlock()
	if r.failures.users == nil {
		return nil
	}
	if all, ok := r.failures.users.Peek(user); ok {
		return all.([]Failure) // never changed once stored
	}
	return nil
}

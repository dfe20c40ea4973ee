package agree

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"imapproxy/routing"
)

// Format is the number of the format in which this release writes its values.
const Format = 1

// Fleet is the value of the key `fleet`: the backends as all proxies agree on them. A decoded Fleet is never
// changed.
type Fleet struct {
	Format int `json:"format"`
	// Epoch is the number of the fleet; it only grows.
	Epoch uint64 `json:"epoch"`
	// Catalogue is discovery's index of the answer from which the fleet was made.
	Catalogue uint64 `json:"catalogue"`
	// Users, Storage and Buckets are settings that must be the same at all proxies: how users' names are
	// made canonical, the storage ("shared", "separate"), the number of buckets. A proxy with other settings
	// doesn't join.
	Users   string `json:"users"`
	Storage string `json:"storage"`
	Buckets int    `json:"buckets"`
	// Backends is the newest fleet, sorted by id.
	Backends []Backend `json:"backends"`
	// Kept are the fleets from the lowest epoch that some proxy has acked to this one, oldest first, each
	// with what choice depends on.
	Kept []Kept `json:"kept"`
	// Move is the schedule by which users who aren't where this fleet sends them are moved.
	Move Move `json:"move"`
	// Drains are the drains that operators have asked for, sorted by backend. Each stays until an operator
	// ends it, even while discovery doesn't list the backend.
	Drains []Drain `json:"drains,omitempty"`
	// Pauses are the pauses that operators have asked for, sorted by backend, until PauseSettles after their
	// end.
	Pauses []Pause `json:"pauses,omitempty"`
	// Sum is the sum of all overrides (sumOf) of the fleet with the epoch Summed. In a fleet with another
	// Epoch it says nothing: a release that doesn't know it has made that fleet, and has carried it over.
	Sum    uint64 `json:"sum,omitempty"`
	Summed uint64 `json:"summed,omitempty"`

	// unknown are the fields that a later release has added to the same format. The next fleet carries them
	// unchanged.
	unknown map[string]json.RawMessage
}

// Backend is a backend of a fleet.
type Backend struct {
	ID         string        `json:"id"`
	Name       string        `json:"name,omitempty"`    // what people call it; "": its ID
	Service    string        `json:"service,omitempty"` // its id on its machine
	Address    string        `json:"address"`
	Weight     int           `json:"weight"`
	State      routing.State `json:"state"`
	Reason     string        `json:"reason,omitempty"`
	TLS        string        `json:"tls,omitempty"`
	ServerName string        `json:"server_name,omitempty"`
	Datacenter string        `json:"datacenter,omitempty"`
	Node       string        `json:"node,omitempty"`
	Tags       []string      `json:"tags,omitempty"`
	// Since is when the state became what it is, by the clock of the proxy that wrote it, in milliseconds
	// since 1970. It is for people, and distinguishes one change from the next; nothing is computed from it.
	Since int64 `json:"since"`
	// Lost says that the last change of state took the backend away (down, or not listed).
	Lost bool `json:"lost,omitempty"`
	// Kept says that the panic threshold keeps the backend, which discovery calls down or doesn't list.
	Kept bool `json:"kept,omitempty"`
	// Drained says that the backend would be up if no operator drained it.
	Drained bool `json:"drained,omitempty"`
}

// Kept is what choice depends on in one fleet.
type Kept struct {
	Epoch uint64 `json:"epoch"`
	// Made distinguishes this fleet from another one with the same epoch, which exists after Consul was
	// restored from a snapshot.
	Made string `json:"made"`
	// Up is the backends that are up, sorted by id.
	Up []Share `json:"up"`
	// Changes are the differences between its overrides and those of the fleet before it. All overrides of
	// the newest fleet stand in overrides/NN; those of an older fleet are these with the later changes
	// undone.
	Changes []Change `json:"changes,omitempty"`
}

// Share is a backend that is up.
type Share struct {
	ID     string `json:"id"`
	Weight int    `json:"weight"`
}

// Change is an override that was added, changed (From isn't empty) or removed (To is empty).
type Change struct {
	User string `json:"user"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Move is the schedule of moves: bucket n is due at Begin + n/buckets × Cycle and, if some of its users
// couldn't leave then, again in later rounds (see turn). Backends that an operator drains have schedules of
// their own.
type Move struct {
	Begin int64 `json:"begin"` // milliseconds since 1970
	// Users is the Begin for users that overrides move, who are all moved at once.
	Users int64 `json:"users"`
	Cycle int64 `json:"cycle"` // milliseconds; 0: all at once
	// Slow is the Cycle for users at backends that are up. They are moved to balance the load.
	Slow  int64 `json:"slow,omitempty"`
	Pause int64 `json:"pause"` // milliseconds
	// Settle says that only users at backends that aren't up are moved. Other users go where this fleet
	// sends them once they have no connection.
	Settle bool `json:"settle,omitempty"`
}

// newest returns the fleet's own entry in Kept.
func (f *Fleet) newest() *Kept { return &f.Kept[len(f.Kept)-1] }

// kept returns the entry of an epoch; nil if it isn't kept.
func (f *Fleet) kept(epoch uint64) *Kept {
	for i := range f.Kept {
		if f.Kept[i].Epoch == epoch {
			return &f.Kept[i]
		}
	}
	return nil
}

// backend returns the backend of this fleet; nil if it has none with that id.
func (f *Fleet) backend(id string) *Backend {
	i, ok := slices.BinarySearchFunc(f.Backends, id, func(b Backend, id string) int { return strings.Compare(b.ID, id) })
	if !ok {
		return nil
	}
	return &f.Backends[i]
}

// lost reports whether the backend is down, or isn't in the fleet.
func (f *Fleet) lost(id string) bool {
	b := f.backend(id)
	return b == nil || b.State == routing.Down
}

// up reports whether the backend was up in the fleet.
func (k *Kept) up(id string) bool {
	_, ok := slices.BinarySearchFunc(k.Up, id, func(s Share, id string) int { return strings.Compare(s.ID, id) })
	return ok
}

// sameChoice reports whether both fleets make the same choice for users without an override.
func (k *Kept) sameChoice(o *Kept) bool { return slices.Equal(k.Up, o.Up) }

// upOf returns the entry Up for the backends.
func upOf(backends []Backend) []Share {
	up := []Share{}
	for _, b := range backends {
		if b.State == routing.Up {
			up = append(up, Share{b.ID, b.Weight})
		}
	}
	return up
}

// Overrides is the value of a key overrides/NN: user → backend.
type Overrides struct {
	Format int               `json:"format"`
	Users  map[string]string `json:"users"`
}

// sumOf returns an override's part of a sum of overrides: parts are added, in any order, and subtracted. A
// sum shows that a key overrides/NN was deleted, or changed by other means than a proxy's write. It has 52
// bits, so that a program that keeps numbers as floats doesn't change it.
func sumOf(user, backend string) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for _, part := range []string{user, "\x00", backend} {
		for i := range len(part) {
			h = (h ^ uint64(part[i])) * 1099511628211
		}
	}
	return h
}

const sumBits = 1<<52 - 1

// sum returns the sum of the overrides.
func sum(users map[string]string) (s uint64) {
	for user, backend := range users {
		s += sumOf(user, backend)
	}
	return s & sumBits
}

// changedSum returns the sum of the overrides after the changes.
func changedSum(s uint64, changes []Change) uint64 {
	for _, c := range changes {
		if c.From != "" {
			s -= sumOf(c.User, c.From)
		}
		if c.To != "" {
			s += sumOf(c.User, c.To)
		}
	}
	return s & sumBits
}

// shardOf returns the NN of the key overrides/NN that has the user's override.
func shardOf(user string) int { return routing.Bucket(user) % maxShards }

// Routing returns the backend as discovery described it, in the state that the proxies agree on.
func (b *Backend) Routing() routing.Backend {
	return routing.Backend{
		ID: b.ID, Name: b.Name, Service: b.Service, Address: b.Address, Weight: b.Weight, State: b.State, Reason: b.Reason,
		TLS: b.TLS, ServerName: b.ServerName, Datacenter: b.Datacenter, Node: b.Node, Tags: b.Tags, KeptByAll: b.Kept,
	}
}

// Drain is a backend that an operator drains.
type Drain struct {
	Backend string `json:"backend"`
	Since   int64  `json:"since"`        // milliseconds since 1970, by the clock of the proxy that was asked
	By      string `json:"by,omitempty"` // the operator, for people to read
	// Deadline is when sessions that couldn't be moved are ended, in milliseconds since 1970: those of
	// bucket n at n/buckets × drainSpread after it. 0: no session is ended.
	Deadline int64 `json:"deadline,omitempty"`
	// Rate is how many users a second all proxies together move. 0: the policy's MoveRate, or more if the
	// users couldn't be moved at that rate in half of the time until Deadline.
	Rate float64 `json:"rate,omitempty"`
	// Begin and Cycle are the schedule, as in Move. Begin is 0 until the backend's state is no longer up.
	Begin int64 `json:"begin,omitempty"`
	Cycle int64 `json:"cycle,omitempty"`
}

// over reports whether the time of a bucket's sessions at a drained backend is over.
func (d *Drain) over(bucket, buckets int, now time.Time) bool {
	return d.Deadline > 0 && now.UnixMilli() >= d.Deadline+drainSpread.Milliseconds()*int64(bucket)/int64(buckets)
}

// drain returns the drain of a backend; nil if it has none.
func (f *Fleet) drain(backend string) *Drain {
	i, ok := slices.BinarySearchFunc(f.Drains, backend, func(d Drain, id string) int { return strings.Compare(d.Backend, id) })
	if !ok {
		return nil
	}
	return &f.Drains[i]
}

// Pause is a backend that an operator has paused.
type Pause struct {
	Backend string `json:"backend"`
	Since   int64  `json:"since"` // milliseconds since 1970, by the clock of the proxy that was asked
	// Until is when the pause ends. An operator who ends it earlier sets it to that time.
	Until int64  `json:"until"`
	By    string `json:"by,omitempty"` // the operator, for people to read
}

// unheard says whether proxies' reports that they can't reach the backend don't count: it is paused.
func (p *Pause) unheard(now time.Time) bool { return p != nil && now.UnixMilli() < p.Until }

// pause returns the pause of a backend; nil if it has none.
func (f *Fleet) pause(backend string) *Pause {
	i, ok := slices.BinarySearchFunc(f.Pauses, backend, func(p Pause, id string) int { return strings.Compare(p.Backend, id) })
	if !ok {
		return nil
	}
	return &f.Pauses[i]
}

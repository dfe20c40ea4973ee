package routing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// State says which users a backend gets. The zero value is Up.
type State uint8

const (
	// Up takes new users.
	Up State = iota
	// Draining keeps the users pinned to it and gets no new ones (Consul's
	// maintenance; a vhost count of 0 in Dovecot director's terms).
	Draining
	// Down gets no users.
	Down
)

// String returns the state's name as metrics, logs and the admin page show it.
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Draining:
		return "draining"
	case Down:
		return "down"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// MarshalText gives String to encoders such as JSON's.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(text []byte) error {
	for _, known := range []State{Up, Draining, Down} {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("backend state %q is none of up, draining, down", text)
}

// Storage says whether backends serve the same mail. It has no usable zero
// value, since a wrong guess shows a user an empty INBOX: the operator sets it.
type Storage uint8

const (
	// Shared: any backend can serve any user.
	Shared Storage = iota + 1
	// Separate: a user's mail is on one backend only, which a placement names.
	Separate
)

// ParseStorage reads the setting's words, "shared" and "separate".
func ParseStorage(s string) (Storage, error) {
	switch s {
	case "shared":
		return Shared, nil
	case "separate":
		return Separate, nil
	}
	return 0, fmt.Errorf("storage %q: say \"shared\" or \"separate\"", s)
}

// String returns the setting's word.
func (s Storage) String() string {
	switch s {
	case Shared:
		return "shared"
	case Separate:
		return "separate"
	}
	return "unset"
}

// Backend is one IMAP server of the fleet. Readers share a Backend, so it is never
// changed, its Tags included.
type Backend struct {
	// ID never changes while the backend is the same one: not with its address, its port, or
	// the name of its machine. It is the key of pins, of sessions and of the hash.
	ID string
	// Name is what people call it, in logs, metrics, the admin API and placements: unique
	// among the backends that are listed, and it may change. "" = ID.
	Name string
	// Service is its id on its machine, where discovery knows machines; then Service@Node
	// names it, too.
	Service string
	Address string // host:port
	Weight  int    // share of the users, relative to the others; 0 gets no new users
	Tags    []string
	State   State
	Reason  string // why the state, in a few words; "" where it needs none

	TLS        string // "none", "starttls", "implicit"; "" = backend_defaults
	ServerName string // name to verify its certificate against; "" = backend_defaults
	Datacenter string
	Node       string // the machine, where discovery knows it

	// Pending: the source lists the backend and hasn't learnt its State yet. A backend
	// that is known already keeps its state; another one is Down until there is an answer,
	// and PickWithin waits for that.
	Pending bool
}

// Shown is the name for people.
func (b *Backend) Shown() string { return cmp.Or(b.Name, b.ID) }

// Qualified is the name that no other listed backend has, whatever theirs are.
func (b *Backend) Qualified() string {
	if b.Service == "" || b.Node == "" {
		return b.ID
	}
	return b.Service + "@" + b.Node
}

// equal reports whether discovery said the same of both.
func (b *Backend) equal(o *Backend) bool {
	return b.ID == o.ID && b.Name == o.Name && b.Service == o.Service && b.Address == o.Address && b.Weight == o.Weight && b.State == o.State &&
		b.Reason == o.Reason && b.TLS == o.TLS && b.ServerName == o.ServerName &&
		b.Datacenter == o.Datacenter && b.Node == o.Node && b.Pending == o.Pending && slices.Equal(b.Tags, o.Tags)
}

// Snapshot is a whole set of backends, as one source sees it at one moment.
// Sources always provide whole sets; this package computes the changes.
type Snapshot struct {
	Source   string // "consul", "static"; for logs and metrics
	Backends []Backend
	// Index is the source's own number of the answer, which grows, and Consistent says that the answer is from the source's leader: only such a
	// one may have a lower number than those before it. Only an Agreement needs them.
	Index      uint64
	Consistent bool
	// Saved is when the set was learnt, for one that was kept on disk; zero: it is a
	// live answer. A saved set is taken only while nothing else is known.
	Saved time.Time
}

// cleaned returns the usable backends of a snapshot, sorted by id, and a
// sentence for each that isn't.
func (s Snapshot) cleaned() (good []Backend, bad []string) {
	good = make([]Backend, 0, len(s.Backends))
	for _, b := range s.Backends {
		switch {
		case b.ID == "" || strings.ContainsRune(b.ID, 0):
			bad = append(bad, fmt.Sprintf("backend at %q has no usable id", b.Address))
			continue
		case b.Address == "":
			bad = append(bad, fmt.Sprintf("backend %q has no address", b.Shown()))
			continue
		}
		b.Name, b.Weight = b.Shown(), max(b.Weight, 0)
		b.Tags = slices.Clone(b.Tags)
		good = append(good, b)
	}
	slices.SortStableFunc(good, func(a, b Backend) int { return strings.Compare(a.ID, b.ID) })
	unique := good[:0]
	for i, b := range good {
		if i > 0 && b.ID == good[i-1].ID {
			bad = append(bad, fmt.Sprintf("backend id %q is given twice, %s is ignored", b.ID, b.Address))
			continue
		}
		unique = append(unique, b)
	}
	return unique, bad
}

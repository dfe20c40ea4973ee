package routing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// State says which users a backend receives. The zero value is Up.
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

// MarshalText returns String, for encoders such as JSON's.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText parses the output of MarshalText.
func (s *State) UnmarshalText(text []byte) error {
	for _, known := range []State{Up, Draining, Down} {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("backend state %q is none of up, draining, down", text)
}

// Storage says whether backends serve the same mail. It has no usable zero value, since a wrong guess would
// show users an empty INBOX: the operator sets it.
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
	// ID doesn't change as long as the backend is the same: not with its address, its port, or the name of
	// its machine. It is the key of pins, of sessions and of the hash.
	ID string
	// Name is the name in logs, metrics, the admin API and placements. It is unique among the listed
	// backends, and it may change. "" = ID.
	Name string
	// Service is the backend's service id on its machine, if discovery knows machines; then Service@Node
	// names it, too.
	Service string
	Address string // host:port
	Weight  int    // share of the users, relative to the others; 0 gets no new users
	Tags    []string
	State   State
	Reason  string // the reason of the state, in a few words; may be ""

	TLS        string // "none", "starttls", "implicit"; "" = backend_defaults
	ServerName string // name to verify its certificate against; "" = backend_defaults
	SendProxy  string // "none", or "v2": connections begin with the PROXY header; "" = backend_defaults
	Datacenter string
	Node       string // the machine, if discovery knows it

	// Pending: the source lists the backend and doesn't know its State yet. A known backend keeps its state;
	// a new one is Down until the source knows, and PickWithin waits for that.
	Pending bool
	// KeptByAll: discovery took it away, and the proxies' panic threshold keeps it. Only an Agreement's answers have it.
	KeptByAll bool
}

// Shown returns the name for logs, metrics and pages.
func (b *Backend) Shown() string { return cmp.Or(b.Name, b.ID) }

// Qualified returns a name that no other listed backend has.
func (b *Backend) Qualified() string {
	if b.Service == "" || b.Node == "" {
		return b.ID
	}
	return b.Service + "@" + b.Node
}

// equal says whether discovery's data is the same for both.
func (b *Backend) equal(o *Backend) bool {
	return b.ID == o.ID && b.Name == o.Name && b.Service == o.Service && b.Address == o.Address && b.Weight == o.Weight && b.State == o.State &&
		b.Reason == o.Reason && b.TLS == o.TLS && b.ServerName == o.ServerName && b.SendProxy == o.SendProxy &&
		b.Datacenter == o.Datacenter && b.Node == o.Node && b.Pending == o.Pending && slices.Equal(b.Tags, o.Tags)
}

// Snapshot is a whole set of backends, as one source sees it at one moment.
// Sources always provide whole sets; this package computes the changes.
type Snapshot struct {
	Source   string // "consul", "static"; for logs and metrics
	Backends []Backend
	// Index is the source's number of the answer, which increases. Consistent says that the answer is from
	// the source's leader: only such an answer may have a lower Index than earlier ones. Only an Agreement
	// needs them.
	Index      uint64
	Consistent bool
	// Saved is the time when the set was learnt, if it was read from disk; zero: it is a live answer. A saved
	// set is applied only while no other set is known.
	Saved time.Time
}

// cleaned returns the usable backends of a snapshot, sorted by id, and a sentence about each unusable one.
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

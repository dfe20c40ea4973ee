package agree

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Record is the value of a key proxies/ID: the epoch that a proxy has acked, and where its users are who
// aren't where that fleet sends them. A decoded Record is never changed.
type Record struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
	// Seq counts the writes of this key. A reading in which the key has the number of a write was made after
	// that write.
	Seq uint64 `json:"seq"`
	// Acked is the newest epoch that the proxy has switched to.
	Acked uint64 `json:"acked"`
	// Made is Kept.Made of the epoch acked.
	Made string `json:"made"`
	// TTL is the TTL of the proxy's Consul session, in milliseconds. Other proxies wait for so long before
	// they remove the key after the session has ended.
	TTL int64 `json:"ttl"`
	// Buckets are the buckets' stays, by backend.
	Buckets map[string]Bitmap `json:"buckets,omitempty"`
	// Users are users' own stays: user → backend.
	Users map[string]string `json:"users,omitempty"`
	// Unreachable are backends that the proxy can't reach.
	Unreachable []string `json:"unreachable,omitempty"`
	// About is for people and for other proxies' admin APIs; it decides nothing.
	About About `json:"about"`
}

// About describes a proxy.
type About struct {
	Version  string `json:"version,omitempty"`
	Admin    string `json:"admin,omitempty"`    // address of the admin API
	Host     string `json:"host,omitempty"`     // the machine
	Process  int    `json:"process,omitempty"`  // id of the process there
	Started  int64  `json:"started,omitempty"`  // milliseconds since 1970, by its own clock
	Config   string `json:"config,omitempty"`   // digest of the configuration
	Settings string `json:"settings,omitempty"` // of the agreement, that should be the same everywhere: NAME=VALUE, with spaces between
	Clock    int64  `json:"clock,omitempty"`    // milliseconds since 1970, when the record was written
	Succeeds string `json:"succeeds,omitempty"` // id of the process that this one replaces, in an upgrade
}

// stay returns the backend of the record's stay of a bucket; "" if it has none.
func (r *Record) stay(bucket int) string {
	for backend, buckets := range r.Buckets {
		if buckets.Has(bucket) {
			return backend
		}
	}
	return ""
}

// clone returns a copy that may be changed.
func (r *Record) clone() *Record {
	c := *r
	c.Buckets = make(map[string]Bitmap, len(r.Buckets))
	for backend, buckets := range r.Buckets {
		c.Buckets[backend] = slices.Clone(buckets)
	}
	c.Users = maps.Clone(r.Users)
	if c.Users == nil {
		c.Users = make(map[string]string)
	}
	c.Unreachable = slices.Clone(r.Unreachable)
	return &c
}

// setStay sets the stay of a bucket or, with "", removes it. A bucket has one stay at most.
func (r *Record) setStay(bucket int, backend string) {
	for b, buckets := range r.Buckets {
		if b != backend && buckets.Has(bucket) {
			if buckets.clear(bucket); buckets.empty() {
				delete(r.Buckets, b)
			}
		}
	}
	if backend != "" {
		if r.Buckets == nil {
			r.Buckets = make(map[string]Bitmap)
		}
		b := r.Buckets[backend]
		b.set(bucket)
		r.Buckets[backend] = b
	}
}

// Bitmap is a set of buckets. In JSON it is base64 of bytes, bucket 0 being the lowest bit of the first one,
// without the zeros at the end: 684 characters at most.
type Bitmap []byte

// Has reports whether the bucket is in the set.
func (b Bitmap) Has(bucket int) bool { return bucket>>3 < len(b) && b[bucket>>3]&(1<<(bucket&7)) != 0 }

// All yields the buckets of the set, in their order.
func (b Bitmap) All(yield func(bucket int) bool) {
	for i, octet := range b {
		for bit := range 8 {
			if octet&(1<<bit) != 0 && !yield(i<<3|bit) {
				return
			}
		}
	}
}

func (b *Bitmap) set(bucket int) {
	for len(*b) <= bucket>>3 {
		*b = append(*b, 0)
	}
	(*b)[bucket>>3] |= 1 << (bucket & 7)
}

func (b Bitmap) clear(bucket int) {
	if b.Has(bucket) {
		b[bucket>>3] &^= 1 << (bucket & 7)
	}
}

func (b Bitmap) empty() bool {
	return !slices.ContainsFunc(b, func(octet byte) bool { return octet != 0 })
}

// MarshalText is part of encoding.TextMarshaler.
func (b Bitmap) MarshalText() ([]byte, error) {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return base64.RawStdEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText is part of encoding.TextUnmarshaler.
func (b *Bitmap) UnmarshalText(text []byte) error {
	octets, err := base64.RawStdEncoding.Strict().AppendDecode(nil, text)
	switch {
	case err != nil:
		return fmt.Errorf("a set of buckets isn't base64: %w", err)
	case Bitmap(octets).empty(): // no proxy writes it, and it would be written otherwise
		return errors.New("a set of buckets is empty")
	}
	*b = octets
	return nil
}

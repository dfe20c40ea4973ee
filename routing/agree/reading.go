package agree

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Pair is a key below the prefix, as Consul's KV returns it.
type Pair struct {
	Key         string // without the prefix: "fleet", "proxies/ID", "overrides/NN"
	Value       []byte
	ModifyIndex uint64
	Session     string // that holds the key; "": none
}

// Reading is one read of the whole prefix; all its values are as of one index.
type Reading struct {
	Index uint64
	// Consistent says that the leader was asked (Consul's mode `consistent`). Only such a reading may have a
	// lower index than one before it, which then shows that Consul's state was restored.
	Consistent bool
	// Sent is when it was asked for, by the proxy's own clock; zero: just now. Answers may come in another order than the
	// requests were made in: a lower index shows nothing if the reading was asked for before what it is compared with was known.
	Sent time.Time

	Fleet      *Fleet // nil: there is no key, or its value can't be used (Problems)
	FleetIndex uint64 // of the key, whatever its value; 0: there is none
	Proxies    []Proxy
	// Unknown is the number of proxies' keys that are held by a session, or written by a later release, and
	// whose values can't be used. It isn't known where the users of these proxies are.
	Unknown   int
	Overrides [maxShards]Shard
	Problems  []Problem

	// unfit is the fleet in the reading whose overrides can't be used, nil if there is none; sum is that of
	// the overrides.
	unfit *Fleet
	sum   uint64
}

// before reports whether the reading was asked for before a time.
func (r *Reading) before(t time.Time) bool { return !r.Sent.IsZero() && r.Sent.Before(t) }

// Proxy is the key of a proxy.
type Proxy struct {
	*Record
	Index   uint64
	Session string // "" = none holds it
}

// Shard is a key of overrides/.
type Shard struct {
	Users map[string]string // nil: there is no key
	Index uint64
}

// Problem is a value that was left out.
type Problem struct {
	Key         string // below the prefix
	ModifyIndex uint64
	Err         error
}

// Error returns the sentence for the log.
func (p Problem) Error() string { return fmt.Sprintf("key %s is left out: %v", p.Key, p.Err) }

// Help says what an operator can do about it. key is the whole key in Consul.
func (p Problem) Help(key string) string {
	remove := "delete the key in Consul"
	if plain(key) {
		remove = "consul kv delete " + key
	}
	_, shard := shardNumber(p.Key)
	switch {
	case errors.Is(p.Err, ErrNewer):
		return "a proxy of a later release has written it: leave it there. If no such proxy runs any more: " + remove
	case p.Key == fleetKey, shard:
		return "the proxies that have joined write it again after the TTL of their sessions: leave it there (docs/cluster.md)"
	case strings.HasPrefix(p.Key, proxiesPrefix):
		return "the proxy with this id writes it again if it runs; if there is none: " + remove
	}
	return "no proxy uses this key: " + remove
}

// plain reports whether a shell takes the text as it is.
func plain(text string) bool {
	return !strings.HasPrefix(text, "-") && strings.IndexFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./", r))
	}) < 0
}

// Unwrap returns the cause, to distinguish ErrNewer from ErrForeign.
func (p Problem) Unwrap() error { return p.Err }

// proxy returns the key of the proxy with that id; nil if there is none.
func (r *Reading) proxy(id string) *Proxy {
	for i := range r.Proxies {
		if r.Proxies[i].ID == id {
			return &r.Proxies[i]
		}
	}
	return nil
}

// problem returns the index of a key whose value was left out; 0: it wasn't.
func (r *Reading) problem(key string) uint64 {
	for _, p := range r.Problems {
		if p.Key == key {
			return p.ModifyIndex
		}
	}
	return 0
}

// Decoder makes readings of Consul's answers. It decodes only values that have changed since its last
// reading. It is not safe for use by several goroutines.
type Decoder struct{ last map[string]decoded }

type decoded struct {
	index   uint64
	raw     []byte
	value   any    // *Fleet, *Record or *Overrides; nil: it can't be used
	sum     uint64 // of *Overrides
	problem error
}

// Reading decodes an answer. The pairs of one answer may come in any order.
func (d *Decoder) Reading(index uint64, consistent bool, pairs []Pair) *Reading {
	r := &Reading{Index: index, Consistent: consistent}
	now := make(map[string]decoded, len(pairs))
	for i := range pairs {
		p := &pairs[i]
		one, ok := d.last[p.Key]
		if !ok || one.index != p.ModifyIndex || !bytes.Equal(one.raw, p.Value) { // a restored state can give an index a second time
			was := one.value
			one = decodePair(p)
			if _, isRecord := was.(*Record); isRecord && one.problem != nil && p.Session != "" {
				one.value = was // it counts until its proxy, which sees the fault as well, writes it again
			}
		}
		now[p.Key] = one
		if one.problem != nil {
			r.Problems = append(r.Problems, Problem{p.Key, p.ModifyIndex, one.problem})
		}
		switch v := one.value.(type) {
		case *Fleet:
			r.Fleet = v
		case *Record:
			r.Proxies = append(r.Proxies, Proxy{v, p.ModifyIndex, p.Session})
		case *Overrides:
			shard, _ := shardNumber(p.Key)
			r.Overrides[shard] = Shard{v.Users, p.ModifyIndex}
			r.sum += one.sum
		default:
			if strings.HasPrefix(p.Key, proxiesPrefix) && (p.Session != "" || errors.Is(one.problem, ErrNewer)) {
				r.Unknown++
			}
			if shard, ok := shardNumber(p.Key); ok {
				r.Overrides[shard].Index = p.ModifyIndex
			}
		}
		if p.Key == fleetKey {
			r.FleetIndex = p.ModifyIndex
		}
	}
	d.last = now
	r.sum &= sumBits
	if err := r.overridesFit(); err != nil {
		r.Problems = append(r.Problems, Problem{fleetKey, r.FleetIndex, err})
		r.Fleet, r.unfit = nil, r.Fleet
	}
	return r
}

const (
	fleetKey        = "fleet"
	proxiesPrefix   = "proxies/"
	overridesPrefix = "overrides/"
)

func proxyKey(id string) string { return proxiesPrefix + id }

func shardKey(shard int) string { return fmt.Sprintf("%s%02x", overridesPrefix, shard) }

func shardNumber(key string) (int, bool) {
	text, ok := strings.CutPrefix(key, overridesPrefix)
	if !ok || len(text) != 2 {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 16, 8)
	return int(n), err == nil && n < maxShards && shardKey(int(n)) == key
}

func decodePair(p *Pair) decoded {
	one := decoded{index: p.ModifyIndex, raw: p.Value}
	set := func(value any, err error) {
		if one.problem = err; err == nil {
			one.value = value
		}
	}
	id, isProxy := strings.CutPrefix(p.Key, proxiesPrefix)
	shard, isShard := shardNumber(p.Key)
	switch {
	case p.Key == fleetKey:
		v, err := DecodeFleet(p.Value)
		set(v, err)
	case isProxy && id != "":
		v, err := DecodeRecord(id, p.Value)
		set(v, err)
	case isShard:
		v, err := DecodeOverrides(shard, p.Value)
		if set(v, err); err == nil {
			one.sum = sum(v.Users)
		}
	case p.Key == "" || strings.HasSuffix(p.Key, "/"): // a folder, as Consul's page makes them
	default:
		set(nil, fmt.Errorf("%w: no key has this name", ErrForeign))
	}
	return one
}

// overridesFit returns why the overrides can't be used: a key overrides/NN can't be read, or the overrides
// aren't those that the fleet was written with. nil: they can.
func (r *Reading) overridesFit() error {
	for shard := range r.Overrides {
		if s := &r.Overrides[shard]; s.Index != 0 && s.Users == nil {
			return errors.New("the overrides of its users can't be read: " + shardKey(shard))
		}
	}
	if f := r.Fleet; f != nil && f.Summed == f.Epoch && f.Sum != r.sum {
		return errors.New("keys below overrides/ were deleted, or changed by other means than a proxy's write")
	}
	return nil
}

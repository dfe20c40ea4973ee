package agree

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/routing"
)

// saved is a snapshot of Consul's state, as an operator makes it.
type saved struct {
	index    uint64
	pairs    map[string]Pair
	sessions map[string]*fakeSession
}

// save makes a snapshot now and then; the last few are kept.
func (w *world) save() {
	if w.quiet {
		return
	}
	w.after(w.between(time.Second, 5*time.Second), w.save)
	if len(w.saved) == 6 {
		w.saved = w.saved[1:]
	}
	w.saved = append(w.saved, saved{w.consul.index, maps.Clone(w.consul.pairs), maps.Clone(w.consul.sessions)})
}

// wreck is what operators do to the values in Consul.
func (w *world) wreck() {
	if w.quiet {
		return
	}
	w.after(w.between(8*time.Second, 25*time.Second), w.wreck)
	c := w.consul
	keys := slices.Sorted(maps.Keys(c.pairs))
	if len(keys) == 0 {
		return
	}
	key := keys[w.rng.IntN(len(keys))]
	switch w.rng.IntN(9) {
	case 0:
		w.trace("all keys are deleted")
		c.index++
		c.pairs = make(map[string]Pair)
		w.noStart = w.now + simTTL + time.Second
		c.changed()
	case 1, 2:
		w.restore(w.saved[w.rng.IntN(len(w.saved))])
	case 3:
		w.trace("the key fleet is deleted")
		c.index++
		delete(c.pairs, fleetKey)
		c.changed()
	case 4:
		w.put(key, `{"format":2,"epoch":"of a later release"}`)
	case 5:
		w.put(key, []string{"", "{", "null", `{"format":1}`, `{"format":0}`, "\xff", `{"format":1,"epoch":18446744073709551615}`}[w.rng.IntN(7)])
	case 6:
		w.put([]string{"fleeet", "proxies/", "overrides/zz", "overrides/00"}[w.rng.IntN(4)], `{"format":1,"users":{"nobody":"b1"}}`)
	case 7, 8:
		w.wreckOverrides()
	}
}

// wreckOverrides deletes a key overrides/NN, or changes the override in it.
func (w *world) wreckOverrides() {
	c := w.consul
	for _, key := range slices.Sorted(maps.Keys(c.pairs)) {
		p := c.pairs[key]
		shard, is := shardNumber(key)
		o, err := DecodeOverrides(shard, p.Value)
		if !is || err != nil || len(o.Users) == 0 || w.chance(0.3) {
			continue
		}
		if w.chance(0.6) {
			w.trace("%s is deleted", key)
			c.index++
			delete(c.pairs, key)
			c.changed()
			return
		}
		for user := range o.Users {
			o.Users[user] = fmt.Sprintf("b%d", 1+w.rng.IntN(3))
		}
		value, err := Encode(o)
		if err != nil {
			w.fail("%v", err)
		}
		w.put(key, string(value))
		return
	}
}

// put is an operator's write: Consul's locks don't keep it out.
func (w *world) put(key, value string) {
	w.trace("%s is overwritten with %q", key, value)
	c := w.consul
	c.index++
	p, there := c.pairs[key]
	if one := decodePair(&p); there && one.problem == nil && strings.HasPrefix(key, overridesPrefix) {
		w.good[key] = p.Value
	}
	p.Key, p.Value, p.ModifyIndex = key, []byte(value), c.index
	c.pairs[key] = p
	c.changed()
}

// restore brings an earlier state back, with its sessions and its index.
func (w *world) restore(s saved) {
	w.trace("Consul's state of index %d is restored, over that of %d", s.index, w.consul.index)
	c := w.consul
	c.index, c.pairs, c.sessions = s.index, maps.Clone(s.pairs), maps.Clone(s.sessions)
	for _, id := range slices.Sorted(maps.Keys(c.sessions)) {
		c.renew(id)
	}
	w.noStart = w.now + simTTL + time.Second
	c.changed()
}

// mendValues makes an operator delete the values that can't be read, except those of proxies that live,
// which write their own values again. Overrides that were there before are put back: otherwise users would
// be moved without any proxy's write.
func (w *world) mendValues() {
	if !w.wrecks || w.now > simEnd-time.Second {
		return
	}
	w.after(time.Second, w.mendValues)
	c := w.consul
	if r := c.readBy(new(Decoder), true, 0); r.unfit != nil && w.now > simEnd-20*time.Second { // no proxy that has joined had the overrides
		w.trace("fleet is deleted, since the overrides aren't what it was written with")
		c.index++
		delete(c.pairs, fleetKey)
		c.changed()
	}
	for _, key := range slices.Sorted(maps.Keys(c.pairs)) {
		p := c.pairs[key]
		if one := decodePair(&p); one.problem == nil || strings.HasPrefix(key, proxiesPrefix) && p.Session != "" {
			continue
		}
		if good := w.good[key]; good != nil {
			w.put(key, string(good))
			continue
		}
		w.trace("%s is deleted", key)
		c.index++
		delete(c.pairs, key)
		c.changed()
	}
}

// Values that no proxy wrote, keys that are gone, restored snapshots: no user is on two backends, and once
// an operator has deleted the values that can't be read, every claim is granted.
func TestSimulationOfWreckedState(t *testing.T) {
	for name, mode := range map[string]Mode{"hold": Hold, "serve": Serve} {
		t.Run(name, func(t *testing.T) { different(t, 150, mode, func(w *world) { w.wrecks = true }) })
	}
}

// Clocks run at rates that differ by up to one in a hundred.
func TestSimulationOfClocksThatRunApart(t *testing.T) {
	different(t, 100, Hold, func(w *world) { w.rates = true })
}

// Separate storage: each user is where the placement says, or an override.
func TestSimulationOfSeparateStorage(t *testing.T) {
	different(t, 100, Hold, func(w *world) {
		w.storage, w.homes = routing.Separate, make(map[string]string)
		for i, user := range w.users {
			w.homes[user] = fmt.Sprintf("b%d", 1+i%3)
		}
	})
}

// A proxy that notices that Consul's state was restored waits for the others to notice it: if it joined at
// once, a user could be on two backends.
func TestSimulationMissesTheWaitAfterARestore(t *testing.T) {
	seed, err := worlds(500, 1000, func(seed uint64) error {
		w := newWorld(seed, Hold, ruleRestored, 0)
		w.wrecks = true
		if err := w.run(); unsafe(err) {
			return err
		}
		return nil
	})
	if err == nil {
		t.Fatal("no violation")
	}
	t.Logf("seed %d: %v", seed, err)
}

// A restored state can use an index a second time, for another value.
func TestADecoderTakesNoValueOfAnotherTimeForThisOne(t *testing.T) {
	var d Decoder
	for _, backend := range []string{"b1", "b2"} {
		value, err := Encode(&Overrides{Format: Format, Users: map[string]string{"user0": backend}})
		if err != nil {
			t.Fatal(err)
		}
		shard := shardOf("user0")
		r := d.Reading(9, true, []Pair{{Key: shardKey(shard), Value: value, ModifyIndex: 7}})
		if got := r.Overrides[shard].Users["user0"]; got != backend {
			t.Errorf("%s is read as %s", backend, got)
		}
	}
}

// different runs worlds that differ from the usual one.
func different(t *testing.T, n int, mode Mode, how func(*world)) {
	t.Helper()
	served := make(chan int, 1)
	served <- 0
	n = seeds(t, n)
	seed, err := worlds(1, n, func(seed uint64) error {
		w := newWorld(seed, mode, 0, 0)
		how(w)
		if os.Getenv("TRACE") == fmt.Sprint(seed) {
			w.trace = func(format string, args ...any) { t.Logf("%10v "+format, append([]any{w.now}, args...)...) }
		}
		err := w.run()
		served <- <-served + w.served
		return err
	})
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if s := <-served; s < 10*n {
		t.Errorf("the simulation does too little: %d claims served in %d worlds", s, n)
	}
}

// With Settle users at backends that are up rest, and their buckets are replaced by their names.
func TestSimulationOfUsersWhoRest(t *testing.T) {
	for _, mode := range []Mode{Hold, Serve} {
		different(t, 600, mode, func(w *world) { w.slow = -1 })
	}
}

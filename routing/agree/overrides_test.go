package agree

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/routing"
)

// overridden returns a proxy that has moved so many users, with long names, to b2.
func overridden(t *testing.T, users int) (*alone, []string) {
	a := newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up)
	var names []string
	for i := range users {
		names = append(names, fmt.Sprintf("user%d.%s", i, strings.Repeat("x", 60)))
	}
	for from := 0; from < users; from += 500 {
		for _, user := range names[from:min(from+500, users)] {
			if err := a.m.MoveUser(user, "b2", a.now); err != nil {
				t.Fatal(err)
			}
		}
		for range 200 {
			if a.later(time.Second / 10); len(a.m.writer.moves) == 0 {
				break
			}
		}
	}
	a.hasOverrides(names, "b2")
	return a, names
}

// hasOverrides checks the overrides that this proxy goes by, and that stand in Consul.
func (a *alone) hasOverrides(users []string, backend string) {
	a.t.Helper()
	r := a.consul.read(true, 0)
	if r.Fleet == nil {
		a.t.Fatalf("there is no fleet: %v", r.Problems)
	}
	for _, user := range users {
		if got, there := a.m.Override(user), r.Overrides[shardOf(user)].Users[user]; got != backend || there != backend {
			a.t.Fatalf("%s has the override %q, in Consul %q", user, got, there)
		}
	}
	if a.consul.w.err != nil {
		a.t.Fatal(a.consul.w.err)
	}
}

func (a *alone) shards() (keys []string) {
	for _, key := range slices.Sorted(maps.Keys(a.consul.pairs)) {
		if strings.HasPrefix(key, overridesPrefix) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Keys of overrides that are deleted, or changed by an operator, aren't used, and are written again after a TTL, in
// Txns that Consul takes. Until then a claim of a user with an override goes where it went before.
func TestOverridesThatWereDeletedAreWrittenAgain(t *testing.T) {
	a, users := overridden(t, 2000)
	a.consul.w.wrecks = true // a value that is left out is no error of the test
	for name, wreck := range map[string]func(keys []string){
		"one is deleted": func(keys []string) { delete(a.consul.pairs, keys[7]) },
		"all are deleted": func(keys []string) {
			maps.DeleteFunc(a.consul.pairs, func(key string, _ Pair) bool { return slices.Contains(keys, key) })
		},
		"one is changed": func(keys []string) {
			p := a.consul.pairs[keys[9]]
			p.Value = []byte(strings.Replace(string(p.Value), `"b2"`, `"b1"`, 1))
			p.ModifyIndex = a.consul.index + 1
			a.consul.pairs[keys[9]] = p
		},
	} {
		t.Run(name, func(t *testing.T) {
			epoch := a.m.fleet.Epoch
			wreck(a.shards())
			a.consul.index++
			a.consul.changed()
			a.later(time.Second / 10)
			if r := a.consul.read(true, 0); r.Fleet != nil {
				t.Fatal("the overrides are taken for those of the fleet")
			}
			for _, user := range users[:100] {
				if got := a.m.Claim(user, "", a.now); got.Verdict != Go || got.Backend != "b2" {
					t.Fatalf("%+v", got)
				}
				a.m.Release(user, a.now)
			}
			for range 700 {
				if a.later(time.Second / 10); a.m.outage.IsZero() {
					break
				}
			}
			a.hasOverrides(users, "b2")
			if a.m.fleet.Epoch != epoch || len(a.shards()) != maxShards {
				t.Errorf("epoch %d, %d keys", a.m.fleet.Epoch, len(a.shards()))
			}
		})
	}
}

// A fleet that was made by a release without the sum says nothing about the overrides.
func TestASumOfAnotherEpochIsNotCompared(t *testing.T) {
	f := testFleet()
	f.Sum, f.Summed = 5, f.Epoch
	var d Decoder
	if r := d.Reading(1, true, []Pair{{Key: fleetKey, Value: encoded(t, f), ModifyIndex: 1}}); r.Fleet != nil {
		t.Error("the overrides aren't missed")
	}
	f.Summed--
	if r := d.Reading(1, true, []Pair{{Key: fleetKey, Value: encoded(t, f), ModifyIndex: 2}}); r.Fleet == nil {
		t.Error(r.Problems)
	}
}

package main

import (
	"maps"
	"slices"
	"time"

	"imapproxy/internal/admin"
)

// allDrains returns how far all proxies are together with each backend that users leave, by stable id. A user who has
// connections by several proxies is counted at each.
func allDrains(all admin.Cluster[admin.Backends]) []admin.Drain {
	return together(all, func(b admin.Backends) []admin.Drain { return b.Drains }, func(d admin.Drain) string { return d.StableID },
		func(sum *admin.Drain, d admin.Drain) {
			sum.Users, sum.Started, sum.Ended = sum.Users+d.Users, sum.Started+d.Started, sum.Ended+d.Ended
			sum.Ends, sum.Begun = later(sum.Ends, d.Ends), earlier(sum.Begun, d.Begun)
			sum.Sessions, sum.Held = plus(sum.Sessions, d.Sessions), plus(sum.Held, d.Held)
			sum.WaitsFor = slices.Compact(slices.Sorted(slices.Values(slices.Concat(sum.WaitsFor, d.WaitsFor))))
		})
}

// allPauses returns the pauses with what all proxies have at each backend, by stable id.
func allPauses(all admin.Cluster[admin.Backends]) []admin.Pause {
	return together(all, func(b admin.Backends) []admin.Pause { return b.Pauses }, func(p admin.Pause) string { return p.StableID },
		func(sum *admin.Pause, p admin.Pause) {
			sum.Connections, sum.Until = sum.Connections+p.Connections, later(sum.Until, p.Until)
			sum.Sessions, sum.Held = plus(sum.Sessions, p.Sessions), plus(sum.Held, p.Held)
		})
}

// together adds up the proxies' values of each id. The answers aren't changed.
func together[T any](all admin.Cluster[admin.Backends], of func(admin.Backends) []T, id func(T) string, add func(sum *T, one T)) []T {
	sums := map[string]*T{}
	for _, p := range all.Proxies {
		if p.Answer == nil {
			continue
		}
		for _, one := range of(*p.Answer) {
			if sum := sums[id(one)]; sum != nil {
				add(sum, one)
			} else {
				sums[id(one)] = new(one)
			}
		}
	}
	var values []T
	for _, id := range slices.Sorted(maps.Keys(sums)) {
		values = append(values, *sums[id])
	}
	return values
}

// plus returns the sum of two counts by name, in a map of its own.
func plus(a, b map[string]int) map[string]int {
	sum := map[string]int{}
	for _, counts := range []map[string]int{a, b} {
		for name, n := range counts {
			sum[name] += n
		}
	}
	return sum
}

// total returns the sum of all counts.
func total(counts map[string]int) (n int) {
	for _, some := range counts {
		n += some
	}
	return n
}

// later returns the later of two times; nil is no time.
func later(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

// earlier returns the earlier of two times; nil is no time.
func earlier(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}

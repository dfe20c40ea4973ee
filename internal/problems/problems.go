package problems

import (
	"cmp"
	"slices"
)

// Find returns the problems of a proxy in this state: critical ones first, then by kind and subject.
func Find(s *Snapshot) []Problem {
	var all []Problem
	for _, rule := range []func(*Snapshot) []Problem{backends, consul, proxies, policy, certificates, reload, limits, shortages, parking} {
		all = append(all, rule(s)...)
	}
	order := Kinds()
	slices.SortStableFunc(all, func(a, b Problem) int {
		urgent := func(p Problem) int {
			if p.Critical {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(urgent(a), urgent(b)), cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(a.Subject, b.Subject))
	})
	return all
}

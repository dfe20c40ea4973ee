package app

import (
	"context"

	"imapproxy/proxy/auth"
	"imapproxy/routing/discovery"
)

// owners finds the users whose mailboxes may be shared: those that the sources of credentials and Consul place, as far as they can
// list them.
func owners(sources []auth.Source, source discovery.Source) func(ctx context.Context, max int) ([]string, error) {
	return func(ctx context.Context, max int) (all []string, err error) {
		for _, s := range sources {
			if l, ok := s.(auth.Lister); ok {
				all = append(all, l.PlacedUsers(max-len(all))...)
			}
			if len(all) >= max {
				return all, nil
			}
		}
		if l, ok := source.(discovery.PlacementLister); ok {
			more, err := l.Placed(ctx, max-len(all))
			return append(all, more...), err
		}
		return all, nil
	}
}

package wiring

import (
	"context"
	"errors"
	"strings"

	"imapproxy/internal/config"
	"imapproxy/routing"
	"imapproxy/routing/discovery"
)

// DomainPlacement returns the placement that the configuration has for the domain of a user, "" if it has none.
func DomainPlacement(c *config.Config, user string) string {
	domain := user[strings.LastIndexByte(user, '@')+1:]
	if len(domain) == len(user) {
		return ""
	}
	for _, d := range c.Domains {
		if strings.EqualFold(d.Name, domain) {
			return d.Placement
		}
	}
	return ""
}

// Placements returns how the placements that no source of credentials gives are read and changed: those of Consul with separate storage, else
// those of domains. Either is nil if there are none. With shared storage any backend can serve a user, so logins must not
// wait for Consul.
func Placements(c *config.Config, source discovery.Source) (
	read func(ctx context.Context, user string) (backend string, ok bool, err error), change func(ctx context.Context, user, from, to string) error,
) {
	if placements, ok := source.(discovery.PlacementSource); ok && c.Routing.Storage == routing.Separate.String() {
		read = placements.Placement
		if writer, ok := source.(discovery.PlacementWriter); ok {
			change = writer.Place
		}
	}
	if len(c.Domains) == 0 {
		return read, change
	}
	each, write := read, change
	read = func(ctx context.Context, user string) (string, bool, error) {
		if each != nil {
			if backend, ok, err := each(ctx, user); ok || err != nil {
				return backend, ok, err
			}
		}
		backend := DomainPlacement(c, user)
		return backend, backend != "", nil
	}
	if write != nil {
		// A user who leaves the backend of their domain gets a placement of their own.
		change = func(ctx context.Context, user, from, to string) error {
			err := write(ctx, user, from, to)
			if errors.Is(err, discovery.ErrNotPlaced) && from == DomainPlacement(c, user) {
				return write(ctx, user, "", to)
			}
			return err
		}
	}
	return read, change
}

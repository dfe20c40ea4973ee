package main

import (
	"context"
	"errors"

	"imapproxy/internal/wiring"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/discovery"
)

// maxAsked bounds the users among whom check looks for one of each backend.
const maxAsked = 256

// sharers finds users whose mail is at known backends: shared mailboxes are proved with the mail of one at each backend.
func (k *checker) sharers(sources []auth.Source) {
	if k.cfg.Shared == nil {
		return
	}
	for _, s := range sources {
		lister, can := s.(auth.Lister)
		placer, knows := s.(auth.Placer)
		if !can || !knows {
			continue
		}
		for _, name := range lister.PlacedUsers(maxAsked) {
			if placement, known := placer.Placed(name); known {
				k.placed = append(k.placed, placedUser{name, placement})
			}
		}
	}
}

// sharersInConsul adds those whom Consul's KV places.
func (k *checker) sharersInConsul(ctx context.Context) {
	if k.cfg.Shared == nil || k.cfg.Discovery.Consul == nil {
		return
	}
	source, err := discovery.NewConsul(wiring.Consul(k.cfg.Discovery.Consul), nil)
	if err == nil {
		var names []string
		names, err = source.Placed(ctx, maxAsked)
		for _, name := range names {
			if placement, known, err := source.Placement(ctx, name); err == nil && known {
				k.placed = append(k.placed, placedUser{name, placement})
			}
		}
	}
	if err != nil {
		k.report.fail("shared", "the token needs key_prefix:read on "+discovery.PlacementPrefix, "%v", err)
	}
}

// shares proves that a backend applies the rights of the user who opens another user's mail.
func (k *checker) shares(ctx context.Context, r *report, b routing.Backend, t upstream.Target) {
	if k.cfg.Shared == nil {
		return
	}
	what := "shared " + b.Shown()
	o, err := wiring.Shared(k.cfg)
	if err != nil {
		r.fail(what, "", "%v", err)
		return
	}
	owner := ""
	if k.placement != "" && b.Means(k.placement) {
		owner = k.canonical
	}
	for _, u := range k.placed {
		if owner == "" && b.Means(u.placement) {
			owner = u.name
		}
	}
	if owner == "" {
		r.skip(what, "name one with --user", "not proved: no user who is placed on it is known")
		return
	}
	how, err := k.dialer.VerifySharing(ctx, t, upstream.Auth{User: owner, MasterPassword: o.Password})
	switch {
	case err == nil:
		r.ok(what, "the rights are those of the user who opens the mail of %s (%s)", owner, how)
	case errors.Is(err, upstream.ErrRights):
		r.fail(what, "docs/shared.md, “Identity”: the passdb needs override_fields = userdb_acl_user=%u, and the plugins acl and imap_acl must be on", "%s: %s", owner, said(err))
	default:
		r.fail(what, "docs/shared.md, “Identity”: any user must be a master user with the password of shared.password_file. Cyrus and Courier have no such master users: their users share nothing through the proxy", "%s: %s", owner, said(err))
	}
}

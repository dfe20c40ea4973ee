package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"imapproxy/internal/wiring"
	"imapproxy/routing/agree"
	"imapproxy/routing/cluster"
	"imapproxy/routing/discovery"
)

// proxies checks what the proxy needs beside other proxies: its rights in Consul, and whether they agree on users'
// backends in the same way.
func (k *checker) proxies(ctx context.Context) {
	if k.cfg.Discovery.Consul == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(k.timeout, 10*time.Second))
	defer cancel()
	agreed, ok := k.agreement(ctx)
	if ok {
		k.others(ctx, agreed)
	}
}

// agreement tries the rights that the agreement needs. It returns the keys of the other proxies; false: they aren't known.
func (k *checker) agreement(ctx context.Context) ([]agree.Proxy, bool) {
	if !wiring.Agrees(k.cfg) {
		return nil, true
	}
	o := wiring.Agreement(k.cfg, nil)
	prefix := "imapproxy/" + o.Service + "/"
	r, err := cluster.Try(ctx, o.Consul, o.Service)
	if err != nil {
		fix := consulFix(err)
		if t, ok := errors.AsType[*cluster.TryError](err); ok && t.Denied && t.Right == cluster.Sessions {
			fix = `give the token session "NAME OF THE AGENT'S NODE" { policy = "write" }, or session_prefix "" (docs/cluster.md)`
		} else if ok && t.Denied {
			fix = `give the token key_prefix "imapproxy/" { policy = "write" } (docs/cluster.md)`
		}
		k.report.fail("cluster", fix, "the proxy couldn't join the others, and no user could log in: %v", err)
		return nil, false
	}
	for _, p := range r.Problems {
		key := prefix + p.Key
		k.report.fail("cluster", p.Help(key), "%s isn't a value of the proxies: %v", key, p.Err)
	}
	if f := r.Fleet; f != nil {
		if f.Users != o.Member.Users {
			k.report.fail("cluster", "write the same users { default_domain, lowercase } into all proxies' configurations", "the proxies normalise users by %s, and this one by %s: it wouldn't join", f.Users, o.Member.Users)
		}
		if f.Storage != o.Member.Storage.String() {
			k.report.fail("cluster", "write the same routing { storage } into all proxies' configurations", "the proxies' storage is %q, and this one's %q: it wouldn't join", f.Storage, o.Member.Storage)
		}
	}
	var living []agree.Proxy
	for _, p := range r.Proxies {
		if p.Session == "" {
			continue
		}
		living = append(living, p)
		if d := o.Member.Differences(p.About); len(d) > 0 {
			k.report.warn("cluster", "write the same values into all proxies' configurations, and reload them", "proxy %s on %s has other settings: %s", p.ID, p.About.Host, strings.Join(d, ", "))
		}
	}
	k.report.ok("cluster", "the token allows sessions and keys below %s; %s", prefix, count(len(living), "living proxy"))
	return living, true
}

// others looks for live proxies under the same service in Consul that decide alone on where users are.
func (k *checker) others(ctx context.Context, agreed []agree.Proxy) {
	service := ""
	switch {
	case k.cfg.Register != nil && !k.cfg.Register.AllowOthers:
		service = k.cfg.Register.Service
	case wiring.Agrees(k.cfg):
		service = k.cfg.Cluster.Service
	default:
		return
	}
	o := wiring.Consul(k.cfg.Discovery.Consul)
	o.Service = service
	all, err := discovery.Living(ctx, o, k.ownEntry(service))
	if err != nil {
		k.report.fail("other proxies", fmt.Sprintf(`give the token service %q { policy = "write" } and node_prefix "" { policy = "read" }`, service), "Consul doesn't say who lives under %q: %v", service, err)
		return
	}
	var alone, beside []string
	for _, p := range all {
		beside = append(beside, p.Name)
		if !p.Agrees && !slices.ContainsFunc(agreed, func(a agree.Proxy) bool { return p.Admin != "" && a.About.Admin == p.Admin }) {
			alone = append(alone, p.Name)
		}
	}
	switch {
	case !wiring.Agrees(k.cfg) && len(beside) > 0:
		k.report.fail("other proxies", "write a block cluster { } on all of them, or register { allow_others = true } if they serve different users", "%s under %q: serve doesn't start, since they wouldn't agree on where users are", lives(beside), service)
	case wiring.Agrees(k.cfg) && len(alone) > 0:
		k.report.fail("other proxies", "write the block cluster { } into its configuration too, and restart it", "%s under %q without a block cluster (or is of an earlier release): a user who connects to both may be on two backends", lives(alone), service)
	}
}

func lives(names []string) string {
	if len(names) == 1 {
		return names[0] + " lives"
	}
	return strings.Join(names, ", ") + " live"
}

// ownEntry is the ID of this proxy's own registration, as far as the configuration determines it.
func (k *checker) ownEntry(service string) string {
	if k.cfg.Register == nil {
		return ""
	}
	bound := make(map[string]string)
	for _, l := range k.cfg.Listeners {
		bound[l.Name] = l.Address
	}
	o, err := wiring.Register(k.cfg, bound, "", nil)
	if err != nil {
		return ""
	}
	id, err := discovery.RegistrationID(service, o.Address, o.Port)
	if err != nil {
		return ""
	}
	return id
}

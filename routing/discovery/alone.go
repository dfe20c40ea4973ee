package discovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
)

// askedWithin bounds how long Alone waits until Consul shows its request.
const askedWithin = 5 * time.Second

// Alone asks whether this proxy may serve alone under its service, and returns the proxies that live beside
// it, each as "ID on NODE": none, or it may not. Of several proxies that ask at the same time one at most may.
// An entry that this proxy's agent has under the proxy's own ID is that of an earlier process, and is replaced,
// unless it is alive and at another address or port.
//
// The request is an entry in Consul whose own check is critical, so that no client is sent there, with a check
// beside it that passes for 30 s. Consul numbers entries in the order of their last change: of two requests
// the one with the lower number was there when the other one was made, so its maker may serve, and the other
// one may not. Alone reads the entries only once it finds its own among them; by then it finds each one with a
// lower number, too. Register replaces the entry; until then Withdraw takes it back.
//
// An error says that Consul doesn't answer, or doesn't take the entry and doesn't say who lives either.
func Alone(ctx context.Context, o RegisterOptions) ([]string, error) {
	r, err := newRegistrar(o)
	if err != nil {
		return nil, err
	}
	defer r.watch.close()
	client, err := r.watch.connect()
	if err != nil {
		return nil, err
	}
	have, err := r.entry(ctx, client)
	if err != nil {
		return nil, err
	}
	if r.differs(have) && r.alive(ctx, client) {
		return []string{fmt.Sprintf("%s at %s:%d", r.opts.ID, clip(have.Address, maxProxyName), have.Port)}, nil
	}
	if err := r.ask(ctx, client, have); err != nil {
		r.tel.Log.Warn("consul refuses the request to serve alone under this service", "service", r.opts.Service, "id", r.opts.ID, "error", clip(err.Error(), 300))
		if have != nil {
			r.opts.Instance = have.Meta[metaInstance]
		}
		return r.others(ctx, client)
	}
	others, err := r.before(ctx, client)
	if err == nil && len(others) > 0 {
		r.deregister(context.WithoutCancel(ctx))
	}
	return others, err
}

// Withdraw removes the entry that Alone has made, if it is still there.
func Withdraw(ctx context.Context, o RegisterOptions) {
	if r, err := newRegistrar(o); err == nil {
		defer r.watch.close()
		r.deregister(ctx)
	}
}

// ask makes the entry that asks to serve alone. have is what the agent has under the ID: if that is alive, it
// may be a process that this one takes over from, so its check isn't made critical.
func (r *registrar) ask(ctx context.Context, client *api.Client, have *api.AgentService) error {
	ctx, cancel := r.call(ctx)
	defer cancel()
	state := api.HealthCritical
	if have != nil {
		if now, _, err := client.Agent().AgentHealthServiceByIDOpts(r.opts.ID, (&api.QueryOptions{}).WithContext(ctx)); err == nil {
			state = now
		}
	}
	meta := maps.Clone(r.meta())
	meta[metaStarting] = "yes"
	ttl := (3 * r.opts.Interval).String()
	return r.put(ctx, client, meta,
		&api.AgentServiceCheck{TTL: ttl, Status: state, DeregisterCriticalServiceAfter: r.opts.DeregisterAfter.String()},
		&api.AgentServiceCheck{CheckID: startingCheck(r.opts.ID), Name: "imapproxy starts", TTL: ttl, Status: api.HealthPassing})
}

func startingCheck(id string) string { return "starting:" + id }

// before returns the other proxies that serve, or have asked before this one did.
func (r *registrar) before(ctx context.Context, client *api.Client) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askedWithin, errors.New("consul accepted an entry and doesn't list it"))
	defer cancel()
	q := &api.QueryOptions{RequireConsistent: true, WaitTime: time.Second}
	for {
		entries, at, err := client.Health().Service(r.opts.Service, "", false, q.WithContext(ctx))
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return nil, err
		}
		q.WaitIndex = at.LastIndex
		entries = slices.DeleteFunc(entries, func(e *api.ServiceEntry) bool { return !complete(e) || e.Service.Meta["kind"] != proxyKind })
		own := slices.IndexFunc(entries, r.isOwn)
		if own < 0 {
			continue
		}
		var others []string
		for i, e := range entries {
			if i != own && !(e.Node.Node == entries[own].Node.Node && r.earlier(e)) && (!asks(e) && lives(e) || asks(e) && e.Service.ModifyIndex < entries[own].Service.ModifyIndex) {
				others = append(others, e.Service.ID+" on "+e.Node.Node)
			}
		}
		slices.Sort(others)
		return others, nil
	}
}

// asks reports whether an entry is that of a living proxy that has asked to serve alone.
func asks(e *api.ServiceEntry) bool {
	return e.Service.Meta[metaStarting] != "" && slices.ContainsFunc(e.Checks, func(c *api.HealthCheck) bool {
		return c.CheckID == startingCheck(e.Service.ID) && c.Status == api.HealthPassing
	})
}

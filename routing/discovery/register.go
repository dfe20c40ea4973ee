package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"imapproxy/telemetry"
)

// proxyKind marks a registration as a proxy's, in the service's meta.
const proxyKind = "imapproxy"

// RegisterOptions describe the proxy's own registration in Consul.
type RegisterOptions struct {
	Consul  ConsulOptions // how to reach the agent; its Service, Tags and Datacenter aren't used
	Service string        // "" = imapproxy
	ID      string        // "" = service-host-port, the same over restarts
	Address string        // "" = the agent's node's
	Port    int           // that clients connect to
	Tags    []string
	Meta    map[string]string
	// CheckHTTP is a URL that the agent asks for our health, such as
	// http://127.0.0.1:8143/healthz; "" = we tell it ourselves (a TTL check).
	CheckHTTP string
	// Interval is how often the registration is looked at, and put back where
	// the agent has forgotten it. 0 = 10 s. A TTL check lasts three of them.
	Interval  time.Duration
	Telemetry *telemetry.Telemetry
}

// Register keeps the proxy registered until ctx ends, then deregisters it and
// returns. It registers again when a restarted agent has lost the registration. If
// Consul refuses, Register logs it and tries again; the proxy continues.
//
// It warns of other proxies under the same service: proxies don't share pins
// yet, so two of them may have one user on two backends for a while.
func Register(ctx context.Context, o RegisterOptions) error {
	r, err := newRegistrar(o)
	if err != nil {
		return err
	}
	defer r.watch.close()
	for {
		r.reconcile(ctx)
		if !sleep(ctx, jitter(r.opts.Interval)) {
			break
		}
	}
	r.deregister(context.WithoutCancel(ctx))
	return nil
}

// RegistrationID is the id that a proxy has in Consul unless it is told another one.
func RegistrationID(service string, port int) (string, error) {
	host, err := os.Hostname()
	return fmt.Sprintf("%s-%s-%d", service, host, port), err
}

// registrar is the loop's state.
type registrar struct {
	opts   RegisterOptions
	tel    *telemetry.Telemetry
	watch  watch // for its client, made anew when the token is refused
	said   string
	others []string
	in     bool // it was registered once
}

func newRegistrar(o RegisterOptions) (*registrar, error) {
	if o.Port <= 0 || o.Port > 65535 {
		return nil, fmt.Errorf("register: port %d", o.Port)
	}
	if o.Service == "" {
		o.Service = proxyKind
	}
	if o.ID == "" {
		var err error
		if o.ID, err = RegistrationID(o.Service, o.Port); err != nil {
			return nil, fmt.Errorf("register: an id is needed: %w", err)
		}
	}
	o.Interval = orDefault(o.Interval, 10*time.Second)
	o.Consul.Datacenter = "" // the agent's: it is where we are
	o.Consul = o.Consul.withDefaults()
	if o.Telemetry == nil {
		o.Telemetry = telemetry.Discard()
	}
	return &registrar{opts: o, tel: o.Telemetry, watch: watch{opts: o.Consul}}, nil
}

// reconcile makes the agent know what it should. Each call to Consul is bounded.
func (r *registrar) reconcile(ctx context.Context) {
	err := r.ensure(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		if code := statusCode(err); code == http.StatusForbidden || code == http.StatusUnauthorized {
			r.watch.close()
		}
		if text := clip(err.Error(), 300); text != r.said {
			r.said = text
			r.tel.Log.Warn("consul doesn't take the proxy's registration; serving goes on, it is tried again",
				"service", r.opts.Service, "id", r.opts.ID, "error", text)
		}
		return
	}
	r.said = ""
	r.lookForOthers(ctx)
}

// ensure registers where needed and feeds the TTL check.
func (r *registrar) ensure(ctx context.Context) error {
	client, err := r.watch.connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.opts.Consul.Slack)
	defer cancel()
	q := (&api.QueryOptions{}).WithContext(ctx)
	have, _, err := client.Agent().Service(r.opts.ID, q)
	switch {
	case statusCode(err) == http.StatusNotFound:
		err = r.register(ctx, client)
	case err == nil && !r.matches(have):
		err = r.register(ctx, client)
	}
	if err != nil || r.opts.CheckHTTP != "" {
		return err
	}
	err = r.pass(ctx, client)
	if code := statusCode(err); code >= 400 && code != http.StatusForbidden {
		// the service is there and its check isn't: put back both
		if err = r.register(ctx, client); err == nil {
			err = r.pass(ctx, client)
		}
	}
	return err
}

func (r *registrar) pass(ctx context.Context, client *api.Client) error {
	return client.Agent().UpdateTTLOpts("service:"+r.opts.ID, "serving", api.HealthPassing, (&api.QueryOptions{}).WithContext(ctx))
}

func (r *registrar) register(ctx context.Context, client *api.Client) error {
	check := &api.AgentServiceCheck{TTL: (3 * r.opts.Interval).String()}
	if r.opts.CheckHTTP != "" {
		check = &api.AgentServiceCheck{HTTP: r.opts.CheckHTTP, Interval: r.opts.Interval.String(), Timeout: "5s"}
	}
	check.CheckID = "service:" + r.opts.ID
	check.Name = "imapproxy"
	check.DeregisterCriticalServiceAfter = "24h" // one that crashed and never came back
	err := client.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{
		ID: r.opts.ID, Name: r.opts.Service, Address: r.opts.Address, Port: r.opts.Port,
		Tags: r.opts.Tags, Meta: r.meta(), Check: check,
	}, api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx))
	if err != nil {
		return err
	}
	what := "registered in consul"
	if r.in {
		what = "registered in consul again: it had forgotten or changed it"
	}
	r.in = true
	r.tel.Log.Info(what, "service", r.opts.Service, "id", r.opts.ID)
	return nil
}

func (r *registrar) meta() map[string]string {
	meta := map[string]string{"kind": proxyKind}
	for k, v := range r.opts.Meta {
		meta[k] = v
	}
	return meta
}

// matches reports whether the agent has what we want it to have.
func (r *registrar) matches(have *api.AgentService) bool {
	if have == nil || have.Service != r.opts.Service || have.Address != r.opts.Address || have.Port != r.opts.Port {
		return false
	}
	for k, v := range r.meta() {
		if have.Meta[k] != v {
			return false
		}
	}
	return slices.Equal(slices.Sorted(slices.Values(have.Tags)), slices.Sorted(slices.Values(r.opts.Tags)))
}

// lookForOthers warns, once for each set of them.
func (r *registrar) lookForOthers(ctx context.Context) {
	client, err := r.watch.connect()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.opts.Consul.Slack)
	defer cancel()
	entries, _, err := client.Health().Service(r.opts.Service, "", true, (&api.QueryOptions{AllowStale: true}).WithContext(ctx))
	if err != nil {
		return // ensure says what is wrong with Consul
	}
	var others []string
	for _, e := range entries {
		if complete(e) && e.Service.ID != r.opts.ID {
			others = append(others, e.Service.ID+" on "+e.Node.Node)
		}
	}
	slices.Sort(others)
	if slices.Equal(others, r.others) {
		return
	}
	r.others = others
	if len(others) > 0 {
		r.tel.Log.Warn("another proxy is registered under this service: proxies don't share pins yet, "+
			"so a user who connects to both may be on two backends while the fleet changes",
			"service", r.opts.Service, "others", clip(strings.Join(others, ", "), 500))
	}
}

// deregister takes the proxy out, within a moment: the process is ending.
func (r *registrar) deregister(ctx context.Context) {
	client, err := r.watch.connect()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(r.opts.Consul.Slack, 3*time.Second))
	defer cancel()
	err = client.Agent().ServiceDeregisterOpts(r.opts.ID, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil && statusCode(err) != http.StatusNotFound && !errors.Is(err, context.Canceled) {
		r.tel.Log.Warn("the proxy's registration stays in consul until its check fails",
			"id", r.opts.ID, "error", clip(err.Error(), 300))
	}
}

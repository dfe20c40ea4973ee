package discovery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"imapproxy/telemetry"
)

// proxyKind marks a registration as a proxy's, in the service's meta.
const proxyKind = "imapproxy"

// What the meta of a registration says of the process, besides MetaAdmin, its version and its
// kind.
const (
	metaInstance = "instance"
	metaPID      = "pid"
	metaStarted  = "started"
	metaAgrees   = "agrees"   // the process agrees with the others on where users are; "yes"
	metaStarting = "starting" // the process has asked to serve alone, and doesn't serve yet
)

// RegisterOptions describe the proxy's own registration in Consul.
type RegisterOptions struct {
	Consul  ConsulOptions // how to reach the agent; its Service, Tags and Datacenter aren't used
	Service string        // "" = imapproxy
	ID      string        // "" = service-host-port, the same over restarts
	Address string        // "" = the agent's node's
	Port    int           // that clients connect to
	Tags    []string
	Meta    map[string]string
	// Instance tells this process from every other one, those before it under the same ID
	// included; Started is when it began. "" and zero: one is made up, now.
	Instance string
	Started  time.Time
	Version  string // the proxy's
	// DeregisterAfter is how long the entry of a process that was killed stays, its check
	// critical. 0 = 1 h; Consul makes it a minute at least.
	DeregisterAfter time.Duration
	// HandedOver reports whether this process has handed its clients over to a later one, which has the entry
	// from then on. Where that has registered under another ID, this process's entry goes after three intervals; it is back once HandedOver is false
	// again. nil: it never does.
	HandedOver func() bool
	// Stopping is closed when this process will end soon, and still serves: from then on its check is critical, so that
	// no more clients are sent here. The entry stays until the end. nil: that isn't told beforehand.
	Stopping <-chan struct{}
	// Agreed: the proxies of the service agree on where users are (routing/cluster): others are no reason for a warning.
	Agreed bool
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
// An entry of an earlier process under the same ID is replaced, however that ended. One of a later
// process that is alive is left alone, also at the end: it is this one's successor. If this process has
// handed nothing over, the later one is another proxy with the same ID, of which Register warns. An entry at
// another address or port isn't that of an earlier process: while it is alive, it stays, and Register warns.
//
// Unless they agree with each other, it warns of other proxies under the same service: two of them may have one
// user on two backends.
func Register(ctx context.Context, o RegisterOptions) error {
	r, err := newRegistrar(o)
	if err != nil {
		return err
	}
	defer r.watch.close()
	for {
		known := r.stopping()
		r.reconcile(ctx)
		if !r.wait(ctx, known) {
			break
		}
	}
	r.deregister(context.WithoutCancel(ctx))
	return nil
}

// RegistrationID is the id that a proxy has in Consul unless it is told another one. address is that of the
// entry; "" = the agent's node's. It is a part of the id, since proxies on several addresses of one machine may
// have the same port.
func RegistrationID(service, address string, port int) (string, error) {
	host, err := os.Hostname()
	if address != "" {
		host += "-" + address
	}
	return fmt.Sprintf("%s-%s-%d", service, host, port), err
}

// registrar is the loop's state.
type registrar struct {
	opts  RegisterOptions
	tel   *telemetry.Telemetry
	watch watch // for its client, made anew when the token is refused
	said  string
	seen  []string // the other proxies that were warned of
	in    bool     // it was registered once
	next  string   // the instance of the successor that was seen last; "" = there is none
	past  int      // how often the entry was looked at since the proxy's clients are a successor's
	told  string   // the instance of which the log has a line: a successor, or another proxy with the id
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
		if o.ID, err = RegistrationID(o.Service, o.Address, o.Port); err != nil {
			return nil, fmt.Errorf("register: an id is needed: %w", err)
		}
	}
	if o.Instance == "" {
		o.Instance = strings.ToLower(rand.Text()[:16])
	}
	if o.Started.IsZero() {
		o.Started = time.Now()
	}
	o.DeregisterAfter = orDefault(o.DeregisterAfter, time.Hour)
	o.Interval = orDefault(o.Interval, 10*time.Second)
	o.Consul.Datacenter = "" // the agent's: it is where we are
	o.Consul = o.Consul.withDefaults()
	if o.Telemetry == nil {
		o.Telemetry = telemetry.Discard()
	}
	r := &registrar{opts: o, tel: o.Telemetry, watch: watch{opts: o.Consul}}
	if o.HandedOver != nil && o.HandedOver() { // a reload: the successor has had its time
		r.past = leftAfter
	}
	return r, nil
}

// wait waits until it is time for reconcile; false: ctx has ended. known: reconcile knew already that this process will end soon.
func (r *registrar) wait(ctx context.Context, known bool) bool {
	stopping := r.opts.Stopping
	if known {
		stopping = nil
	}
	timer := time.NewTimer(jitter(r.opts.Interval))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-stopping:
	case <-timer.C:
	}
	return true
}

// stopping reports whether this process will end soon.
func (r *registrar) stopping() bool {
	select {
	case <-r.opts.Stopping:
		return true
	default:
		return false
	}
}

// reconcile makes the agent's entry what it should be. Each call to Consul is bounded.
func (r *registrar) reconcile(ctx context.Context) {
	err := r.ensure(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		if denied(err) {
			r.watch.close() // the token is read again
		}
		if text := clip(err.Error(), 300); text != r.said {
			r.said = text
			r.tel.Log.Warn("consul refuses the proxy's registration; the proxy serves clients and tries again",
				"service", r.opts.Service, "id", r.opts.ID, "error", text)
		}
		return
	}
	r.said = ""
	if !r.opts.Agreed {
		r.lookForOthers(ctx)
	}
}

// ensure registers where needed and feeds the TTL check.
func (r *registrar) ensure(ctx context.Context) error {
	client, err := r.watch.connect()
	if err != nil {
		return err
	}
	have, err := r.entry(ctx, client)
	switch {
	case err != nil:
	case r.succeeded(ctx, client, have), r.elsewhere(ctx, client, have):
		return nil
	case r.left():
		if have != nil {
			r.deregister(ctx)
		}
		return nil
	case have == nil, !r.matches(have):
		err = r.register(ctx, client, have)
	}
	if err != nil || r.opts.CheckHTTP != "" {
		return err
	}
	err = r.pass(ctx, client)
	if code := statusCode(err); code >= 400 && code != http.StatusForbidden {
		// the service is there and its check isn't: put back both
		if err = r.register(ctx, client, have); err == nil {
			err = r.pass(ctx, client)
		}
	}
	return err
}

// left reports whether a successor has had the clients for some time, and hasn't taken the entry over: it has one under another ID, since it has
// another address or port. Then this process's entry would send clients to where no process serves them.
func (r *registrar) left() bool {
	if r.opts.HandedOver == nil || !r.opts.HandedOver() {
		r.past = 0
		return false
	}
	r.past = min(r.past+1, leftAfter+1)
	return r.past > leftAfter
}

// leftAfter is how many intervals a successor has to register.
const leftAfter = 3

// entry is what the agent has under the proxy's ID; nil for nothing.
func (r *registrar) entry(ctx context.Context, client *api.Client) (*api.AgentService, error) {
	ctx, cancel := r.call(ctx)
	defer cancel()
	have, _, err := client.Agent().Service(r.opts.ID, (&api.QueryOptions{}).WithContext(ctx))
	if statusCode(err) == http.StatusNotFound {
		return nil, nil
	}
	return have, err
}

// call bounds one call to Consul.
func (r *registrar) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.opts.Consul.Call)
}

// succeeded reports whether the entry is a later process's that is alive.
func (r *registrar) succeeded(ctx context.Context, client *api.Client, have *api.AgentService) bool {
	if have == nil || have.Meta[metaInstance] == r.opts.Instance {
		r.next = ""
		return false
	}
	started, err := time.Parse(time.RFC3339Nano, have.Meta[metaStarted])
	if err != nil || !started.After(r.opts.Started) {
		return false // an earlier one, or not a process's
	}
	if !r.alive(ctx, client) {
		return false
	}
	next, seen := have.Meta[metaInstance], r.next
	r.next = next
	about := []any{"service", r.opts.Service, "id", r.opts.ID, "pid", clip(have.Meta[metaPID], 20), "instance", clip(next, 60)}
	switch {
	case r.told == next:
	case r.opts.HandedOver != nil && r.opts.HandedOver():
		r.told = next
		r.tel.Log.Info("another process has registered under the proxy's id, and is taken for its successor", about...)
	case seen == next: // at the first sight it may be about to take over
		r.told = next
		r.tel.Log.Warn("another process has registered under this proxy's id, and this one isn't listed any more: they have the same host name and port. "+
			"Give each its own address (register address), port or host name", about...)
	}
	return true
}

// elsewhere reports whether the entry is that of a living proxy at another address or port. It is no earlier
// process of this proxy, and keeps its entry.
func (r *registrar) elsewhere(ctx context.Context, client *api.Client, have *api.AgentService) bool {
	if !r.differs(have) || !r.alive(ctx, client) {
		return false
	}
	if r.told != have.Meta[metaInstance] {
		r.told = have.Meta[metaInstance]
		r.tel.Log.Warn("a proxy at another address has this proxy's id in consul, and this one isn't listed: they have the same host name and port. "+
			"Give each its own address (register address), port or host name",
			"service", r.opts.Service, "id", r.opts.ID, "other", clip(fmt.Sprintf("%s:%d", have.Address, have.Port), 300))
	}
	return true
}

// differs reports whether the entry is another process's, at another address or port.
func (r *registrar) differs(have *api.AgentService) bool {
	return have != nil && have.Meta["kind"] == proxyKind && have.Meta[metaInstance] != "" && have.Meta[metaInstance] != r.opts.Instance &&
		(have.Address != r.opts.Address || have.Port != r.opts.Port)
}

// alive reports whether the check of the entry under the proxy's ID isn't critical, as far as the agent says.
func (r *registrar) alive(ctx context.Context, client *api.Client) bool {
	ctx, cancel := r.call(ctx)
	defer cancel()
	state, _, err := client.Agent().AgentHealthServiceByIDOpts(r.opts.ID, (&api.QueryOptions{}).WithContext(ctx))
	return err != nil || state != api.HealthCritical
}

// stoppingOutput is what the check of a process says that will end soon, and still serves. When its TTL is over Consul replaces it.
const stoppingOutput = "stopping: send no more clients here"

// lives reports whether an entry is that of a process that serves: its checks pass, or are critical only since it will end soon.
func lives(e *api.ServiceEntry) bool {
	for _, c := range e.Checks {
		if c.Status != api.HealthPassing && !(c.CheckID == "service:"+e.Service.ID && c.Output == stoppingOutput) {
			return false
		}
	}
	return true
}

// pass says in the TTL check that this process serves, or that it will end soon.
func (r *registrar) pass(ctx context.Context, client *api.Client) error {
	ctx, cancel := r.call(ctx)
	defer cancel()
	output, status := "serving", api.HealthPassing
	if r.stopping() {
		output, status = stoppingOutput, api.HealthCritical
	}
	return client.Agent().UpdateTTLOpts("service:"+r.opts.ID, output, status, (&api.QueryOptions{}).WithContext(ctx))
}

// register makes or replaces the entry; have is what is there. A check that is replaced keeps its state, so that of a
// request to serve alone (Alone) passes before the entry is replaced: a proxy that asks in between would
// take this one for dead, and serve too.
func (r *registrar) register(ctx context.Context, client *api.Client, have *api.AgentService) error {
	if have != nil && have.Meta[metaStarting] != "" && have.Meta[metaInstance] == r.opts.Instance && r.opts.CheckHTTP == "" {
		_ = r.pass(ctx, client) // ensure tries again
	}
	ctx, cancel := r.call(ctx)
	defer cancel()
	check := &api.AgentServiceCheck{TTL: (3 * r.opts.Interval).String()}
	if r.opts.CheckHTTP != "" {
		check = &api.AgentServiceCheck{HTTP: r.opts.CheckHTTP, Interval: r.opts.Interval.String(), Timeout: "5s"}
	}
	check.Status = api.HealthPassing // its listeners are there
	if r.stopping() {
		check.Status = api.HealthCritical
	}
	check.DeregisterCriticalServiceAfter = r.opts.DeregisterAfter.String() // one that crashed and never came back
	if err := r.put(ctx, client, r.meta(), check); err != nil {
		return err
	}
	what := "registered in consul"
	switch {
	case !r.in && have != nil && have.Meta[metaInstance] != "" && have.Meta[metaInstance] != r.opts.Instance:
		what = "registered in consul in place of an earlier process, which didn't remove its entry"
	case r.in:
		what = "registered in consul again: the entry was gone or changed"
	}
	r.in = true
	r.tel.Log.Info(what, "service", r.opts.Service, "id", r.opts.ID)
	return nil
}

// put makes or replaces the entry. The first check is the proxy's own.
func (r *registrar) put(ctx context.Context, client *api.Client, meta map[string]string, checks ...*api.AgentServiceCheck) error {
	checks[0].CheckID, checks[0].Name = "service:"+r.opts.ID, "imapproxy"
	return client.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{
		ID: r.opts.ID, Name: r.opts.Service, Address: r.opts.Address, Port: r.opts.Port,
		Tags: r.opts.Tags, Meta: meta, Checks: checks,
	}, api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx))
}

func (r *registrar) meta() map[string]string {
	meta := map[string]string{
		"kind": proxyKind, "version": r.opts.Version, metaInstance: r.opts.Instance, metaPID: strconv.Itoa(os.Getpid()),
		metaStarted: r.opts.Started.UTC().Format(time.RFC3339Nano),
	}
	if r.opts.Agreed {
		meta[metaAgrees] = "yes"
	}
	for k, v := range r.opts.Meta {
		meta[k] = v
	}
	return meta
}

// matches reports whether the agent has what we want it to have.
func (r *registrar) matches(have *api.AgentService) bool {
	if have == nil || have.Service != r.opts.Service || have.Address != r.opts.Address || have.Port != r.opts.Port || have.Meta[metaStarting] != "" {
		return false
	}
	for k, v := range r.meta() {
		if have.Meta[k] != v {
			return false
		}
	}
	return slices.Equal(slices.Sorted(slices.Values(have.Tags)), slices.Sorted(slices.Values(r.opts.Tags)))
}

// others are the living proxies under the service but the one with the ID and the instance of the options.
func (r *registrar) others(ctx context.Context, client *api.Client) ([]string, error) {
	ctx, cancel := r.call(ctx)
	defer cancel()
	entries, _, err := client.Health().Service(r.opts.Service, "", false, (&api.QueryOptions{AllowStale: true}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	var others []string
	for _, e := range entries {
		if !complete(e) || e.Service.Meta["kind"] != proxyKind || !lives(e) {
			continue
		}
		if !r.isOwn(e) && !r.earlier(e) {
			others = append(others, e.Service.ID+" on "+e.Node.Node)
		}
	}
	slices.Sort(others)
	return others, nil
}

// lookForOthers warns, once for each set of them.
func (r *registrar) lookForOthers(ctx context.Context) {
	client, err := r.watch.connect()
	if err != nil {
		return
	}
	others, err := r.others(ctx, client)
	if err != nil || slices.Equal(others, r.seen) {
		return // ensure says what is wrong with Consul
	}
	r.seen = others
	if len(others) > 0 {
		r.tel.Log.Warn("another proxy is registered under this service, and they don't agree on where users are: "+
			"a user who connects to both may be on two backends; a block cluster on all of them ends that",
			"service", r.opts.Service, "others", clip(strings.Join(others, ", "), 500))
	}
}

// deregister removes the proxy's entry. Its calls are bounded: the process is ending.
func (r *registrar) deregister(ctx context.Context) {
	client, err := r.watch.connect()
	if err != nil {
		return
	}
	if have, err := r.entry(ctx, client); err == nil && have != nil {
		if of := have.Meta[metaInstance]; of != "" && of != r.opts.Instance {
			return // another process's
		}
	}
	ctx, cancel := r.call(ctx)
	defer cancel()
	err = client.Agent().ServiceDeregisterOpts(r.opts.ID, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil && statusCode(err) != http.StatusNotFound && !errors.Is(err, context.Canceled) {
		r.tel.Log.Warn("the proxy's registration stays in consul until its check fails",
			"id", r.opts.ID, "error", clip(err.Error(), 300))
	}
}

// isOwn reports whether an entry is this process's.
func (r *registrar) isOwn(e *api.ServiceEntry) bool {
	return e.Service.ID == r.opts.ID && e.Service.Meta[metaInstance] == r.opts.Instance
}

// earlier reports whether an entry is that of this proxy under the ID that earlier releases made, without the
// address: two living proxies on one machine can't have the same address and port.
func (r *registrar) earlier(e *api.ServiceEntry) bool {
	id, err := RegistrationID(r.opts.Service, "", r.opts.Port)
	return err == nil && r.opts.Address != "" && e.Service.ID == id && e.Service.Address == r.opts.Address && e.Service.Port == r.opts.Port
}

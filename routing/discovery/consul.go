package discovery

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"

	"imapproxy/routing"
	"imapproxy/telemetry"
)

// consulSource is the name in logs and metrics.
const consulSource = "consul"

// A watch that returns again and again (a backend that flaps, an index that
// doesn't hold) may do so this often a second, and this often at once.
const (
	watchRate  = 10
	watchBurst = 20
)

// Consul is a Source whose backends are the instances of a Consul service, which it follows by
// blocking queries. It is also a PlacementSource, from Consul's KV.
type Consul struct {
	opts ConsulOptions
	tel  *telemetry.Telemetry
	kv   *sharedClient
	kept *keeper // nil without a CacheFile
}

// firstAnswer is how long the first read may take where there is a set on disk: logins
// wait no longer than three seconds for one.
const firstAnswer = 2 * time.Second

// NewConsul checks the options (files are read, nothing is contacted).
func NewConsul(o ConsulOptions, tel *telemetry.Telemetry) (*Consul, error) {
	if o.Service == "" {
		return nil, errors.New("discovery consul: service is missing: the name the backends are registered under")
	}
	o = o.withDefaults()
	if tel == nil {
		tel = telemetry.Discard()
	}
	kv, err := newSharedClient(o)
	if err != nil {
		return nil, err
	}
	c := &Consul{opts: o, tel: tel, kv: kv}
	if o.CacheFile != "" {
		c.kept = newKeeper(o.CacheFile, o.SavedOf(), tel)
	}
	return c, nil
}

// Keep implements Keeper. It is to be called by the apply of Run only.
func (c *Consul) Keep(s routing.Snapshot) {
	if c.kept != nil && s.Saved.IsZero() {
		c.kept.keep(s.Backends)
	}
}

// Run watches the service until ctx ends.
//
// One query is outstanding at a time. Its rules are those of a watch that
// outlives its agent: after any error the next read doesn't block (a restarted
// agent counts from anew, and would let the old index wait for minutes); an
// answer whose index went back, or in which instances are missing, isn't taken
// until a consistent read has said how things are, since it may be of a server
// that lags, and a blocking query doesn't tell that it leaves out what the token
// may not see; an answer that does tell is an error; a call that takes longer
// than the agent was asked to take is given up; every error is worth another try.
//
// The set on disk is applied once, when the first read fails, hangs or is empty: an
// empty catalogue isn't believed against a set that is known, and this one is.
func (c *Consul) Run(ctx context.Context, apply func(routing.Snapshot)) error {
	var (
		w     = watch{opts: c.opts}
		trip  = outage{log: c.tel.Log, what: "consul"}
		pause = backoff{min: c.opts.MinBackoff, max: c.opts.MaxBackoff}
		pace  = rate.NewLimiter(watchRate, watchBurst)
		saved = c.saved(apply)
	)
	defer w.close()
	defer c.kv.closeIdle()
	if c.kept != nil {
		w.first = firstAnswer
		var writer sync.WaitGroup // ends with ctx, and is waited for here
		writer.Go(func() { c.kept.write(ctx) })
		defer writer.Wait()
	}
	for {
		entries, consistent, err := w.next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			trip.failed(err)
			outcome := "error"
			if denied(err) {
				outcome = "denied"
			}
			c.tel.Discovery(consulSource, outcome)
			w.first = 0
			saved()
			if !pause.wait(ctx) {
				return nil
			}
			continue
		}
		trip.worked()
		pause.reset()
		backends := fleet(entries, c.opts.Service)
		for i := range backends {
			c.opts.Policy.Permit(&backends[i])
		}
		if len(backends) == 0 {
			saved()
		} else {
			saved = func() {}
		}
		w.first = 0
		apply(routing.Snapshot{Source: consulSource, Backends: backends, Index: w.seen, Consistent: consistent})
		if pace.Wait(ctx) != nil {
			return nil
		}
	}
}

// saved is what applies the set on disk, once.
func (c *Consul) saved(apply func(routing.Snapshot)) func() {
	return sync.OnceFunc(func() {
		if c.kept == nil {
			return
		}
		if s, ok := c.kept.load(); ok {
			for i := range s.Backends { // the settings may have changed since
				c.opts.Policy.Permit(&s.Backends[i])
			}
			apply(s)
		}
	})
}

// watch is a client, made when it is needed, and the state of a blocking query.
type watch struct {
	opts      ConsulOptions
	client    *api.Client
	transport *http.Transport
	index     uint64        // 0: the next read doesn't block
	seen      uint64        // the index of the last answer that was taken
	listed    []string      // the identities in it, sorted
	doubt     bool          // an index went back, or instances are missing: the next read has to be consistent
	first     time.Duration // what the first read may take, where that is less than Call; 0 = Call
}

// connect returns the client; a new one the first time, or when the token is
// to be read again.
func (w *watch) connect() (*api.Client, error) {
	if w.client == nil {
		client, transport, err := w.opts.newClient(2)
		if err != nil {
			return nil, err
		}
		w.client, w.transport = client, transport
	}
	return w.client, nil
}

// next returns the next answer, and whether it is the leader's; the same again is no error.
func (w *watch) next(ctx context.Context) (entries []*api.ServiceEntry, consistent bool, err error) {
	for {
		entries, meta, err := w.read(ctx)
		if err == nil && meta.ResultsFilteredByACLs {
			err = errFiltered
		}
		if err != nil {
			w.index = 0
			if denied(err) {
				w.close() // the token is read again
			}
			return nil, false, err
		}
		listed := identities(entries)
		if !w.doubt && (meta.LastIndex < w.seen || lacks(listed, w.listed)) {
			w.index, w.doubt = 0, true
			continue
		}
		consistent = w.doubt
		w.index, w.seen, w.listed, w.doubt = meta.LastIndex, meta.LastIndex, listed, false
		return entries, consistent, nil
	}
}

// identities are those of the instances, sorted.
func identities(entries []*api.ServiceEntry) []string {
	var all []string
	for _, e := range entries {
		if complete(e) {
			all = append(all, identity(e))
		}
	}
	slices.Sort(all)
	return all
}

// lacks reports whether a sorted list lacks some of another.
func lacks(list, of []string) bool {
	for _, s := range of {
		if _, found := slices.BinarySearch(list, s); !found {
			return true
		}
	}
	return false
}

// read is one query, with a deadline of its own.
func (w *watch) read(ctx context.Context) ([]*api.ServiceEntry, *api.QueryMeta, error) {
	client, err := w.connect()
	if err != nil {
		return nil, nil, err
	}
	q := &api.QueryOptions{AllowStale: true} // any server's answer; an outage of the leader is no outage of ours
	if w.doubt {
		q = &api.QueryOptions{RequireConsistent: true}
	}
	limit := w.opts.Call
	if w.index > 0 {
		q.WaitIndex, q.WaitTime = w.index, w.opts.Wait
		limit = w.opts.Wait + w.opts.Wait/16 + w.opts.Slack // Consul adds up to a sixteenth
	}
	if w.first > 0 {
		limit = min(limit, w.first)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return client.Health().ServiceMultipleTags(w.opts.Service, w.opts.Tags, false, q.WithContext(ctx))
}

// close lets go of the client and its idle connections.
func (w *watch) close() {
	if w.transport != nil {
		w.transport.CloseIdleConnections()
	}
	w.client, w.transport = nil, nil
}

// outage logs the first error of a row, and one a minute after it; the end is
// logged if the error was. An agent that comes and goes doesn't fill the log.
// A token that isn't enough is another matter than an agent that is away.
type outage struct {
	log    *slog.Logger
	what   string
	since  time.Time // zero: all is well
	count  int
	said   bool
	denied bool      // what was said last is that the token isn't enough
	logged time.Time // the last error's line, of an older row too
}

func (o *outage) failed(err error) {
	now := time.Now()
	if o.since.IsZero() {
		o.since = now
	}
	o.count++
	no := denied(err)
	if now.Sub(o.logged) < time.Minute && (no == o.denied || !no) {
		return
	}
	o.said, o.denied, o.logged = true, no, now
	if no {
		o.log.Error(o.what+" denies what the proxy has to read; what is known stays, and the token's file is read again at each try",
			"error", clip(err.Error(), 300), "errors", o.count, "since", o.since)
		return
	}
	o.log.Warn(o.what+" doesn't answer; what is known stays", "error", clip(err.Error(), 300), "errors", o.count, "since", o.since)
}

func (o *outage) worked() {
	if o.said {
		o.log.Info(o.what+" answers again", "errors", o.count, "after", time.Since(o.since).Round(time.Millisecond))
	}
	o.since, o.count, o.said, o.denied = time.Time{}, 0, false, false
}

// isMaintenance tells Consul's own maintenance checks from an operator's.
func isMaintenance(c *api.HealthCheck) bool {
	return c.Type == "maintenance" || c.CheckID == api.NodeMaint || strings.HasPrefix(c.CheckID, api.ServiceMaintPrefix)
}

package discovery

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"

	"imapproxy/routing"
	"imapproxy/telemetry"
)

// Bounds of the rate at which a watch may return (a backend that flaps, an index that isn't kept): per
// second, and at once.
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

// firstAnswer bounds the first read if there is a saved set: logins wait at most three seconds for a set.
const firstAnswer = 2 * time.Second

// NewConsul checks the options. It reads files and makes no connection.
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

// Keep implements Keeper. Only the apply function of Run may call it.
func (c *Consul) Keep(s routing.Snapshot) {
	if c.kept != nil && s.Saved.IsZero() {
		c.kept.keep(s.Backends)
	}
}

// Run watches the service until ctx ends.
//
// One query is outstanding at a time. The watch survives restarts of its agent: after any error the next read
// doesn't block, since a restarted agent counts indexes from the start, and a query with the old index would
// block for minutes. If the index of an answer has decreased, or instances are missing, the answer isn't used
// until a consistent read has confirmed it: it may come from a server that lags, and a blocking query doesn't
// tell that it omits what the token may not read; an answer that tells so is an error. A call that takes
// longer than requested is abandoned. Every error is retried.
//
// The saved set is applied once, when the first read fails, hangs or is empty: an empty answer is ignored
// once a set is known, and the saved set makes one known.
func (c *Consul) Run(ctx context.Context, apply func(routing.Snapshot)) error {
	var (
		w     = watch{opts: c.opts}
		trip  = outage{log: c.tel.Log, words: ofConsul("the backends")}
		pause = backoff{min: c.opts.MinBackoff, max: c.opts.MaxBackoff}
		pace  = rate.NewLimiter(watchRate, watchBurst)
		saved = c.saved(apply)
	)
	defer w.close()
	defer c.kv.closeIdle()
	if c.kept != nil {
		w.first = firstAnswer
		var writer sync.WaitGroup // ends with ctx; Run waits for it
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

// saved returns a function that applies the saved set, once.
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

// watch is a client, which is made when it is needed, and the state of a blocking query.
type watch struct {
	opts      ConsulOptions
	client    *api.Client
	transport *http.Transport
	index     uint64        // 0: the next read doesn't block
	seen      uint64        // the index of the last answer that was used
	listed    []string      // the identities in it, sorted
	doubt     bool          // an index has decreased, or instances are missing: the next read has to be consistent
	first     time.Duration // the bound of the first read if it is less than Call; 0 = Call
}

// connect returns the client. It makes a new one the first time, and when the token has to be read again.
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

// next returns the next answer, which may be the same again, and whether it is the leader's.
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

// identities returns the identities of the instances, sorted.
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

// lacks says whether a sorted list lacks an element of another.
func lacks(list, of []string) bool {
	for _, s := range of {
		if _, found := slices.BinarySearch(list, s); !found {
			return true
		}
	}
	return false
}

// read makes one query with its own deadline.
func (w *watch) read(ctx context.Context) ([]*api.ServiceEntry, *api.QueryMeta, error) {
	client, err := w.connect()
	if err != nil {
		return nil, nil, err
	}
	q := &api.QueryOptions{AllowStale: true} // any server may answer, so that backends are known while Consul has no leader
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

// close drops the client and closes its idle connections.
func (w *watch) close() {
	if w.transport != nil {
		w.transport.CloseIdleConnections()
	}
	w.client, w.transport = nil, nil
}

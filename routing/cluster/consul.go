package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"

	"imapproxy/routing/agree"
	"imapproxy/routing/discovery"
)

// A watch makes at most watchRate requests a second, and at most watchBurst at once.
const (
	watchRate  = 5
	watchBurst = 5
	watchSlack = 3 * time.Second // how much longer than consul.wait an answer may take, besides the sixteenth that Consul adds
	maxWait    = time.Minute
	watchPause = 250 * time.Millisecond // after an error
)

// consul makes the Member's requests.
type consul struct {
	prefix string // it ends with a slash
	name   string // the name of the sessions, for people
	opts   discovery.ConsulOptions
	// wait is how long a blocking read may block. Consul doesn't answer a blocking read when its state is
	// restored from a snapshot, and its indexes go back; the read ends when an index is higher than before,
	// or after this time. All proxies have to notice a restored state within a session's TTL, since they join
	// again after that.
	wait time.Duration

	// Guards the client. After Consul refuses its token a new client is made, so that the token's file is
	// read again.
	mu        sync.Mutex
	client    *api.Client
	transport *http.Transport
	denied    map[agree.OpKind]bool // kinds of requests that the token doesn't allow, and that the log has named

	// Guards the decoder, which keeps the values that it has decoded.
	decoding sync.Mutex
	decoder  agree.Decoder
}

func newConsul(o discovery.ConsulOptions, service string, ttl time.Duration) (*consul, error) {
	k := &consul{denied: make(map[agree.OpKind]bool), prefix: "imapproxy/" + service + "/", name: "imapproxy " + service, opts: o, wait: min(ttl/2, maxWait)}
	if _, err := k.connect(); err != nil { // an error in the files is reported at the start
		return nil, err
	}
	return k, nil
}

// connect returns the client.
func (k *consul) connect() (*api.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client == nil {
		client, transport, err := k.opts.NewClient(8)
		if err != nil {
			return nil, err
		}
		k.client, k.transport = client, transport
	}
	return k.client, nil
}

// close drops the client. The next request makes a new one, with the token as it is then.
func (k *consul) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.transport != nil {
		k.transport.CloseIdleConnections()
	}
	k.client, k.transport = nil, nil
}

// reconnect makes the next requests use other options. Requests in progress go on.
func (k *consul) reconnect(o discovery.ConsulOptions) {
	k.close()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opts = o
}

// failed returns err. If Consul refused the token, the token is read again before the next request.
func (k *consul) failed(err error) error {
	var status api.StatusError
	if errors.As(err, &status) && (status.Code == http.StatusForbidden || status.Code == http.StatusUnauthorized) {
		k.close()
	}
	return err
}

// tellDenied logs once that the token doesn't allow a kind of request, and again if the token has allowed it
// in between.
func (k *consul) tellDenied(log *slog.Logger, kind agree.OpKind, err error) {
	var status api.StatusError
	denied := errors.Is(err, errDenied) || errors.As(err, &status) && (status.Code == http.StatusForbidden || status.Code == http.StatusUnauthorized)
	k.mu.Lock()
	said := k.denied[kind]
	if denied || err == nil {
		k.denied[kind] = denied
	}
	k.mu.Unlock()
	if denied && !said {
		log.Error("Consul denies what this proxy needs to agree with the others (docs/cluster.md has the token's policy)", "err", err)
	}
}

// do makes one of the Member's requests.
func (k *consul) do(ctx context.Context, log *slog.Logger, op agree.Op) agree.Result {
	ctx, cancel := context.WithTimeout(ctx, agree.OpTimeout)
	defer cancel()
	result := agree.Result{Sent: time.Now()}
	client, err := k.connect()
	if err == nil {
		err = k.request(ctx, client, op, &result)
	}
	k.tellDenied(log, op.Kind, err)
	if err != nil {
		return agree.Result{Err: k.failed(err), Sent: result.Sent}
	}
	return result
}

func (k *consul) request(ctx context.Context, client *api.Client, op agree.Op, result *agree.Result) (err error) {
	write := (&api.WriteOptions{}).WithContext(ctx)
	switch op.Kind {
	case agree.CreateSession:
		result.Session, _, err = client.Session().CreateNoChecks(&api.SessionEntry{
			Name: k.name, TTL: op.TTL.String(), Behavior: api.SessionBehaviorRelease,
			LockDelay: time.Millisecond, // 0 means Consul's default of 15 s
		}, write)
	case agree.RenewSession:
		var entry *api.SessionEntry
		entry, _, err = client.Session().Renew(op.Session, write)
		result.Refused = err == nil && entry == nil // the session has ended
	case agree.DestroySession:
		_, err = client.Session().Destroy(op.Session, write)
	case agree.Read:
		result.Reading, err = k.read(client, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	case agree.Write:
		err = k.write(ctx, client, op.Txn, result)
	default:
		err = fmt.Errorf("cluster: no such request: %d", op.Kind)
	}
	return err
}

var verbs = map[agree.TxnVerb]api.KVOp{
	agree.CheckIndex: api.KVCheckIndex, agree.CheckNotExists: api.KVCheckNotExists, agree.CheckSession: api.KVCheckSession,
	agree.Lock: api.KVLock, agree.CAS: api.KVCAS, agree.DeleteCAS: api.KVDeleteCAS,
}

// write makes a transaction: Consul does all of its operations, or none.
func (k *consul) write(ctx context.Context, client *api.Client, txn []agree.TxnOp, result *agree.Result) error {
	ops := make(api.TxnOps, len(txn))
	for i, op := range txn {
		ops[i] = &api.TxnOp{KV: &api.KVTxnOp{
			Verb: verbs[op.Verb], Key: k.prefix + op.Key, Value: op.Value, Index: op.Index, Session: op.Session,
		}}
	}
	ok, answer, _, err := client.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
	switch {
	case err != nil:
		return err
	case ok:
		for _, r := range answer.Results {
			if r.KV != nil {
				result.Index = max(result.Index, r.KV.ModifyIndex)
			}
		}
		return nil
	}
	result.Refused = true
	for _, e := range answer.Errors {
		if strings.Contains(e.What, "Permission denied") { // the token doesn't allow it, which says nothing about the keys
			return fmt.Errorf("%w: the token may not write below %s: %s", errDenied, k.prefix, e.What)
		}
	}
	return nil
}

var errDenied = errors.New("consul refuses the request")

// read reads the prefix once.
func (k *consul) read(client *api.Client, q *api.QueryOptions) (*agree.Reading, error) {
	pairs, meta, err := client.KV().List(k.prefix, q)
	if err != nil {
		return nil, err
	}
	below := make([]agree.Pair, 0, len(pairs))
	for _, p := range pairs {
		below = append(below, agree.Pair{
			Key: strings.TrimPrefix(p.Key, k.prefix), Value: p.Value, ModifyIndex: p.ModifyIndex, Session: p.Session,
		})
	}
	k.decoding.Lock()
	defer k.decoding.Unlock()
	return k.decoder.Reading(meta.LastIndex, q.RequireConsistent, below), nil
}

// watch calls read with each new reading of the prefix, until ctx ends. Any server may answer, so that the
// watch goes on while there is no leader. After an error, or when the index has gone back, the next read
// doesn't block; in the second case it asks the leader.
func (k *consul) watch(ctx context.Context, log *slog.Logger, read func(*agree.Reading)) {
	var (
		index  uint64
		asks   bool // whether the next read asks the leader
		broken bool
		pace   = rate.NewLimiter(watchRate, watchBurst)
	)
	for pace.Wait(ctx) == nil {
		r, err := k.next(ctx, index, asks)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !broken {
				log.Warn("the keys of the proxies can't be read from Consul", "err", err)
			}
			broken, index = true, 0
			sleep(ctx, watchPause)
			continue
		case broken:
			log.Info("the keys of the proxies are read from Consul again")
			broken = false
		}
		back := r.Index < index
		asks = back && !asks
		if index = r.Index; back {
			index = 0
		}
		read(r)
	}
}

func (k *consul) next(ctx context.Context, index uint64, asks bool) (*agree.Reading, error) {
	limit := watchSlack
	q := &api.QueryOptions{AllowStale: !asks, RequireConsistent: asks}
	if index > 0 {
		q.WaitIndex, q.WaitTime = index, k.wait
		limit += k.wait + k.wait/16
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	client, err := k.connect()
	if err != nil {
		return nil, err
	}
	sent := time.Now()
	r, err := k.read(client, q.WithContext(ctx))
	if r != nil {
		r.Sent = sent
	}
	return r, k.failed(err)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

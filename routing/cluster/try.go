package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"imapproxy/routing/agree"
	"imapproxy/routing/discovery"
)

// Right is what a proxy needs of Consul to take part.
type Right uint8

const (
	Sessions Right = iota + 1 // making, renewing and destroying sessions
	Keys                      // reading and writing the keys
)

// TryError is Try's error: the right that couldn't be used, and why.
type TryError struct {
	Right  Right
	Denied bool // the token doesn't allow it; otherwise Consul didn't do it
	Err    error
}

func (e *TryError) Error() string { return e.Err.Error() }

// Unwrap returns what Consul said.
func (e *TryError) Unwrap() error { return e.Err }

// Try does what a proxy has to do to take part, without taking part: it makes a session and destroys it, has Consul
// refuse a write that the token would have to allow (nothing is changed, and no proxy is woken), and reads the keys.
func Try(ctx context.Context, o discovery.ConsulOptions, service string) (*agree.Reading, error) {
	k, err := newConsul(o, service, time.Minute)
	if err != nil {
		return nil, err
	}
	defer k.close()
	client, err := k.connect()
	if err != nil {
		return nil, err
	}
	// Destroyed with a context of its own: an interrupted check leaves no session behind.
	write := (&api.WriteOptions{}).WithContext(ctx)
	session, _, err := client.Session().CreateNoChecks(&api.SessionEntry{Name: k.name + ", tried by check", TTL: "10s", LockDelay: time.Millisecond}, write)
	if err == nil {
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), agree.OpTimeout)
			defer cancel()
			_, _ = client.Session().Destroy(session, (&api.WriteOptions{}).WithContext(ctx)) // it ends by itself otherwise
		}()
		_, _, err = client.Session().Renew(session, write)
	}
	if err != nil {
		return nil, tried(Sessions, err)
	}
	key := k.prefix + "proxies/tried-by-check"
	ok, answer, _, err := client.Txn().Txn(api.TxnOps{
		{KV: &api.KVTxnOp{Verb: api.KVLock, Key: key, Session: session}},
		{KV: &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: key}}, // so all of it is undone
	}, (&api.QueryOptions{}).WithContext(ctx))
	switch {
	case err != nil:
		return nil, tried(Keys, err)
	case ok:
		return nil, &TryError{Keys, false, fmt.Errorf("consul did a transaction whose check can't hold; remove the key %s", key)}
	}
	for _, e := range answer.Errors {
		if strings.Contains(e.What, "Permission denied") {
			return nil, &TryError{Keys, true, fmt.Errorf("%w: %s", errDenied, e.What)}
		}
	}
	r, err := k.read(client, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	return r, tried(Keys, err)
}

// tried returns an error of a request as a TryError, nil for none.
func tried(right Right, err error) error {
	if err == nil {
		return nil
	}
	var status api.StatusError
	return &TryError{right, errors.As(err, &status) && (status.Code == http.StatusForbidden || status.Code == http.StatusUnauthorized), err}
}

package peers

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"imapproxy/telemetry"
)

// Defaults and bounds of Options.
const (
	DefaultWithin = 2 * time.Second
	DefaultAtOnce = 16
	// maxPeers bounds the number of peers; more under one name are a mistake.
	maxPeers = 256
	// maxAnswer bounds the length of an answer, in bytes.
	maxAnswer = 4 << 20
)

// HeaderFrom names the asking process in each request to a peer. A proxy that reads its own id in it
// answers StatusSelf and does nothing else.
const HeaderFrom = "Imapproxy-From"

// StatusSelf is the HTTP status of a proxy that was asked by itself.
const StatusSelf = http.StatusLoopDetected

// A Peer is another proxy of the service, as it was found.
type Peer struct {
	Name    string // the id of its registration, or its address if it was named by that
	Address string // host:port of its admin API; "": it isn't known
	Down    bool   // Consul says that its check fails
}

// Options say how peers are asked.
type Options struct {
	Self   string           // the id of this process
	Token  telemetry.Secret // the token of all proxies
	TLS    *tls.Config      // nil: without
	Within time.Duration    // the time that a peer may take. 0: DefaultWithin
	AtOnce int              // the number of peers asked at a time. 0: DefaultAtOnce
}

// A Request is one question to an admin API.
type Request struct {
	Method string
	Path   string
	Query  url.Values
	Body   []byte // JSON; nil: none
	// More is added to Options.Within, for requests that take long.
	More time.Duration
}

// An Answer is a peer's answer: Err, or Status and Body.
type Answer struct {
	Peer   Peer
	Status int
	Body   []byte
	Err    error
}

// Fleet is the other proxies. Its methods may be called by several goroutines at once.
type Fleet struct {
	mu     sync.Mutex // guards what follows
	opts   Options
	client *http.Client
	peers  []Peer
	own    map[string]bool // addresses that have turned out to be this process
}

// New makes a fleet of no peers.
func New(o Options) *Fleet {
	f := &Fleet{}
	f.Reload(o)
	return f
}

// Reload takes new options. Requests under way end with the old ones.
func (f *Fleet) Reload(o Options) {
	if o.Within <= 0 {
		o.Within = DefaultWithin
	}
	if o.AtOnce <= 0 {
		o.AtOnce = DefaultAtOnce
	}
	client := &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: o.TLS, MaxIdleConnsPerHost: 2, MaxConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
			DisableCompression: true,
		},
		// A redirect could take the token to another server.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	f.mu.Lock()
	old := f.client
	f.opts, f.client = o, client
	f.mu.Unlock()
	if old != nil {
		old.CloseIdleConnections()
	}
}

// Close closes connections that no request uses.
func (f *Fleet) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.client.CloseIdleConnections()
}

// Found sets which peers there are now. This process may be among them.
func (f *Fleet) Found(all []Peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.peers, f.own = slices.Clone(all[:min(len(all), maxPeers)]), map[string]bool{}
}

// Peers returns the peers that were found, without this process as far as that is known.
func (f *Fleet) Peers() []Peer {
	f.mu.Lock()
	defer f.mu.Unlock()
	var others []Peer
	for _, p := range f.peers {
		if !f.own[p.Address] {
			others = append(others, p)
		}
	}
	return others
}

// All asks each peer, a number of them at a time, and returns their answers in the order in which they were
// found, without this process. It takes as long as the slowest peer may take.
func (f *Fleet) All(ctx context.Context, r Request) []Answer {
	peers := f.Peers()
	f.mu.Lock()
	places := make(chan struct{}, f.opts.AtOnce)
	f.mu.Unlock()
	answers := make([]Answer, len(peers))
	var asking sync.WaitGroup
	for i, p := range peers {
		places <- struct{}{}
		asking.Go(func() {
			defer func() { <-places }()
			answers[i] = f.Ask(ctx, p, r)
		})
	}
	asking.Wait()
	return slices.DeleteFunc(answers, func(a Answer) bool { return errors.Is(a.Err, ErrSelf) })
}

// ErrSelf means that the peer is this process.
var ErrSelf = errors.New("it is this proxy")

// errNoAddress means that a peer's registration doesn't say where its admin API is.
var errNoAddress = errors.New("its registration names no admin address: it is of an older release, or has no cluster block")

// Ask asks one peer.
func (f *Fleet) Ask(ctx context.Context, p Peer, r Request) Answer {
	a := Answer{Peer: p}
	if p.Address == "" {
		a.Err = errNoAddress
		return a
	}
	f.mu.Lock()
	o, client := f.opts, f.client
	f.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, o.Within+r.More, errors.New("it doesn't answer in time"))
	defer cancel()
	a.Status, a.Body, a.Err = exchange(ctx, client, o, p, r)
	if a.Err != nil && ctx.Err() != nil {
		a.Err = context.Cause(ctx)
	}
	if a.Err == nil && a.Status == StatusSelf {
		a.Err = ErrSelf
		f.mu.Lock()
		f.own[p.Address] = true
		f.mu.Unlock()
	}
	return a
}

func exchange(ctx context.Context, client *http.Client, o Options, p Peer, r Request) (int, []byte, error) {
	u := url.URL{Scheme: "http", Host: p.Address, Path: r.Path, RawQuery: r.Query.Encode()}
	if o.TLS != nil {
		u.Scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), bytes.NewReader(r.Body))
	if err != nil {
		return 0, nil, fmt.Errorf("admin address %q can't be used", p.Address)
	}
	req.Header.Set(HeaderFrom, o.Self)
	req.Header.Set("Authorization", "Bearer "+o.Token.Reveal())
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err // the caller names the address
		}
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, err
	case len(body) > maxAnswer:
		return 0, nil, fmt.Errorf("its answer has more than %d MB", maxAnswer>>20)
	case res.StatusCode == http.StatusOK && !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json"):
		return 0, nil, errors.New("it isn't the admin API of an imapproxy")
	}
	return res.StatusCode, body, nil
}

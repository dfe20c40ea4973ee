package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"imapproxy/telemetry"
)

// clientTimeout bounds one request of a Client.
const clientTimeout = 10 * time.Second

// ErrToken is matched by the errors of a Client without a token, or with a wrong one.
var ErrToken = errors.New("the proxy refuses the token")

// maxAnswer bounds an answer that a Client reads, in bytes.
const maxAnswer = 16 << 20

// A Client sends requests to the API of a running proxy.
type Client struct {
	Address string           // host:port, or a URL without a path
	Token   telemetry.Secret // "" if none is required
	TLS     *tls.Config      // for an https:// address; nil: the system's authorities
	HTTP    *http.Client     // nil: one of its own
}

// Status asks for /v1/status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.get(ctx, "/v1/status", nil, &s)
}

// Backends asks for /v1/backends.
func (c *Client) Backends(ctx context.Context) (Backends, error) {
	var b Backends
	return b, c.get(ctx, "/v1/backends", nil, &b)
}

// SessionsQuery chooses sessions; the zero value is the first page of all.
type SessionsQuery struct {
	User, Backend string
	// Client is an address or a network; Active a duration within which a session has read or written. Sort chooses the first of an order.
	Client, Attachment, NotParked, Active, Sort string
	Limit                                       int    // 0: the server's default, 100; at most 1000
	After                                       string // Sessions.Next of the page before
}

// values are the query's parameters.
func (q SessionsQuery) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"user": q.User, "backend": q.Backend, "after": q.After,
		"client": q.Client, "attachment": q.Attachment, "not_parked": q.NotParked, "active": q.Active, "sort": q.Sort} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// Sessions asks for one page of /v1/sessions.
func (c *Client) Sessions(ctx context.Context, q SessionsQuery) (Sessions, error) {
	var s Sessions
	return s, c.get(ctx, "/v1/sessions", q.values(), &s)
}

// get decodes an answer into out. The error is the server's, or that it can't be reached.
func (c *Client) get(ctx context.Context, path string, q url.Values, out any) error {
	return c.do(ctx, http.MethodGet, path, q, nil, out)
}

// do is get with any method. body is JSON, or nil.
func (c *Client) do(ctx context.Context, method, path string, q url.Values, body []byte, out any) error {
	limit := clientTimeout
	if strings.HasPrefix(path, clusterPrefix) {
		limit = clusterTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	base := strings.TrimSuffix(c.Address, "/")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u := base + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("admin address %q: %w", c.Address, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	}
	client := c.HTTP
	if client == nil {
		transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: c.TLS}
		client = &http.Client{Transport: transport, CheckRedirect: noRedirects}
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("is the proxy running? %w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: %w", u, err)
	}
	if res.StatusCode != http.StatusOK {
		var e Error
		if json.Unmarshal(answer, &e) == nil && e.Error.Code != "" {
			err := fmt.Errorf("%s (%s)", e.Error.Message, e.Error.Code)
			if e.Error.Code == CodeUnauthorized {
				err = fmt.Errorf("%w: %w", ErrToken, err)
			}
			return err
		}
		return fmt.Errorf("%s: %s; is this an imapproxy's admin address?", u, res.Status)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: not the answer of an imapproxy: %w", u, err)
	}
	return nil
}

// noRedirects refuses redirects: the API has none, and the token must not go to another server.
func noRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// kickWithin is how long POST /v1/kick waits for the sessions to end.
const kickWithin = 5 * time.Second

// clusterPrefix stands before the paths that all proxies of the service answer. What follows it is
// the path that each is asked for.
const clusterPrefix = "/v1/cluster"

// clusterPath returns the path below /v1/cluster for path.
func clusterPath(path string) string { return clusterPrefix + strings.TrimPrefix(path, "/v1") }

// clusterTimeout bounds a request of a Client that all proxies answer.
const clusterTimeout = 8*time.Second + kickWithin

// doAll has all proxies of the service do what a POST to path has one do.
func doAll[T any](ctx context.Context, c *Client, path string, request any) (Cluster[T], error) {
	var all Cluster[T]
	body, err := json.Marshal(request)
	if err != nil {
		return all, fmt.Errorf("%s: %w", path, err)
	}
	return all, c.do(ctx, http.MethodPost, clusterPath(path), nil, body, &all)
}

// Cluster is the answer to a path below /v1/cluster: what each proxy of the service has said.
type Cluster[T any] struct {
	Proxies []FromProxy[T] `json:"proxies"` // the one that was asked comes first
}

// FromProxy is one proxy's part.
type FromProxy[T any] struct {
	Proxy   string `json:"proxy"`   // its registered name, or its host's name
	Address string `json:"address"` // of its admin API
	Own     bool   `json:"own"`     // the proxy that received the request
	Error   string `json:"error"`   // why there is no answer; "" if there is one
	Answer  *T     `json:"answer"`  // null if there is an error
}

// ofAll sends the request for path to all proxies of the service.
func ofAll[T any](ctx context.Context, c *Client, path string, q url.Values) (Cluster[T], error) {
	var all Cluster[T]
	return all, c.get(ctx, clusterPath(path), q, &all)
}

// Failed returns the proxies that haven't answered, each with the reason.
func (c Cluster[T]) Failed() (all []string) {
	for _, p := range c.Proxies {
		if p.Error != "" {
			all = append(all, p.Proxy+": "+p.Error)
		}
	}
	return all
}

// post has one proxy do something.
func post[A any](ctx context.Context, c *Client, path string, q any) (a A, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return a, fmt.Errorf("%s: %w", path, err)
	}
	return a, c.do(ctx, http.MethodPost, path, nil, body, &a)
}

// The paths of the verbs. One proxy does them for all; only a dry run is asked of all.
const (
	drainPath   = "/v1/drain"
	undrainPath = "/v1/undrain"
	movePath    = "/v1/move"
)

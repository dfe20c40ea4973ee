package authpolicy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// New makes a client, which connects to nothing yet. Close ends it.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("not the URL of an HTTP service") // it may hold a secret
	}
	if o.HashNonce == "" {
		return nil, errors.New("no nonce for the passwords' hash")
	}
	o.Telemetry = cmp.Or(o.Telemetry, telemetry.Discard())
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Asking.Timeout = cmp.Or(max(o.Asking.Timeout, 0), 2*time.Second)
	n := cmp.Or(max(o.Asking.AtOnce, 0), auth.DefaultAsking)
	c := &Client{o: o, asking: auth.NewAsking(o.Asking), reports: make(chan message, maxReports), closing: make(chan struct{})}
	if o.Header != "" {
		if c.name, c.value = readHeader(o.Header.Reveal()); !goodHeader(c.name, c.value) {
			return nil, errors.New("not a header: write it as NAME: VALUE in one line")
		}
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			// No Proxy: names of users go to the server itself. No HTTP/2: one login's connection that hangs is no other's.
			TLSClientConfig:     &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
			TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
			TLSHandshakeTimeout: c.asking.Timeout(),
			MaxIdleConnsPerHost: n, MaxConnsPerHost: 2 * n, IdleConnTimeout: 10 * time.Second,
			MaxResponseHeaderBytes: 16 << 10, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ctx, drop := context.WithCancelCause(context.Background())
	c.dropped = drop
	for range max(n/4, 1) {
		c.sending.Go(func() { c.send(ctx) }) // ends with Close, which waits for it
	}
	return c, nil
}

// Close sends the reports that wait, for as long as one may take, and frees what the client holds. Questions that are under way
// complete normally.
func (c *Client) Close() error {
	if c == nil {
		return nil
	}
	c.closed.Do(func() {
		close(c.closing)
		late := time.AfterFunc(c.asking.Timeout(), func() { c.dropped(errClosed) })
		c.sending.Wait()
		late.Stop()
		c.dropped(errClosed)
		c.http.CloseIdleConnections()
	})
	return nil
}

var errClosed = errors.New("the proxy doesn't use this policy server any more")

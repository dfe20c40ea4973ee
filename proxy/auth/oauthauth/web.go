package oauthauth

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"imapproxy/proxy/auth"
)

// maxAnswer bounds what a provider may say, in bytes.
const maxAnswer = 1 << 20

// web asks a provider.
type web struct{ client *http.Client }

func newWeb(o Options, timeout time.Duration) *web {
	n := o.Asking.AtOnce
	if n <= 0 {
		n = auth.DefaultAsking
	}
	return &web{&http.Client{
		Transport: &http.Transport{
			// No Proxy: tokens go to the provider itself. No HTTP/2: one login's connection that hangs is no other's.
			TLSClientConfig:     &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
			TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
			TLSHandshakeTimeout: timeout,
			MaxIdleConnsPerHost: n, MaxConnsPerHost: 2 * n, IdleConnTimeout: 90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (w *web) close() { w.client.CloseIdleConnections() }

// status is an answer that isn't 200.
type status int

func (s status) Error() string { return fmt.Sprintf("the provider answers %d, not 200", int(s)) }

// errJSON matches answers that aren't what the protocol has.
var errJSON = errors.New("the provider's answer isn't the JSON that is expected")

// get reads a JSON document.
func (w *web) get(ctx context.Context, from string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return errors.New("not a URL")
	}
	return w.do(r, into)
}

// post sends a form as a client with a secret (RFC 6749 §2.3.1), and reads a JSON document.
func (w *web) post(ctx context.Context, to, id, secret string, form url.Values, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		return errors.New("not a URL")
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id != "" {
		r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	}
	return w.do(r, into)
}

func (w *web) do(r *http.Request, into any) error {
	r.Header.Set("Accept", "application/json")
	resp, err := w.client.Do(r)
	if err != nil {
		return auth.OfRequest(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return auth.OfRequest(err)
	case resp.StatusCode != http.StatusOK:
		return status(resp.StatusCode)
	case len(text) > maxAnswer:
		return fmt.Errorf("%w: more than %d bytes", errJSON, maxAnswer)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return errJSON // its own text may repeat what was sent
	}
	return nil
}

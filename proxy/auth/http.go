package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"imapproxy/telemetry"
)

// HTTPOptions are the options of NewHTTP. URL is required.
type HTTPOptions struct {
	Name string // of the source, in metrics and logs; empty: http

	URL string // of the service, http or https
	// Headers are sent with each request: a secret that the service knows the proxy by.
	Headers map[string]string
	// RootCAs verify the service's certificate; nil: the system's.
	RootCAs *x509.CertPool
	// Names normalises the names that the service gives.
	Names  Names
	Asking AskingOptions
}

// HTTP is a Source that asks a service by the protocol of nginx's mail proxy (auth_http), as
// ngx_mail_auth_http_module speaks it:
//
//	GET /path HTTP/1.1                     HTTP/1.1 200 OK
//	Auth-Method: plain                     Auth-Status: OK            anything else: a failure
//	Auth-User: alice                       Auth-Server: 10.0.0.11     optional, as is
//	Auth-Pass: s%20cret                    Auth-Port: 143
//	Auth-Protocol: imap                    Auth-User: alice@example.org   optional
//	Auth-Login-Attempt: 1                  Auth-Pass: of-the-backend      optional
//	Client-IP: 192.0.2.7                   Auth-Wait: 3               with a failure, or WAIT
//	Auth-SSL: on
//
// Unlike nginx it keeps connections, and Auth-Server and Auth-Port may be left out. The text of
// Auth-Status is never passed on.
type HTTP struct {
	o      HTTPOptions
	host   string
	asking *Asking
	client *http.Client
}

// Bounds of what a service may want and say.
const (
	maxHTTPHeader = 16 << 10
	maxHTTPBody   = 64 << 10 // read, and thrown away, to keep the connection
)

// NewHTTP makes the source. It connects to nothing yet.
func NewHTTP(o HTTPOptions) (*HTTP, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("not the URL of an HTTP service") // it may hold a secret
	}
	h := &HTTP{o: o, host: u.Host, asking: NewAsking(o.Asking)}
	n := cmp.Or(max(o.Asking.AtOnce, 0), DefaultAsking)
	h.client = &http.Client{
		Transport: &http.Transport{
			// No Proxy: passwords go to the service itself. No HTTP/2: one login's connection that
			// hangs is no other's.
			TLSClientConfig:     &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
			TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
			TLSHandshakeTimeout: h.asking.Timeout(),
			MaxIdleConnsPerHost: n, MaxConnsPerHost: 2 * n, IdleConnTimeout: 90 * time.Second,
			MaxResponseHeaderBytes: maxHTTPHeader, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return h, nil
}

// Name implements Source.
func (h *HTTP) Name() string { return cmp.Or(h.o.Name, "http") }

// Close implements Source.
func (h *HTTP) Close() error {
	h.client.CloseIdleConnections()
	return nil
}

// Certified implements Certifier: with Auth-Method: external, as nginx says it, and no password.
func (h *HTTP) Certified(ctx context.Context, c Credentials) Verdict {
	c.Password = ""
	return h.Authenticate(ctx, c)
}

// Authenticate implements Source.
func (h *HTTP) Authenticate(ctx context.Context, c Credentials) Verdict {
	for waited := time.Duration(0); ; {
		var again time.Duration
		v := h.asking.Ask(ctx, c, func(ctx context.Context) (v Verdict) {
			v, again = h.ask(ctx, c)
			return v
		})
		if again == 0 {
			return v
		}
		// Without a place among the questions, which are for those who ask.
		if waited += again; waited > maxAuthWait {
			return Unavailable{errLongWait}
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return Unavailable{context.Cause(ctx)}
		}
	}
}

// errLongWait: see maxAuthWait.
var errLongWait = fmt.Errorf("the service lets a login wait for longer than %v", maxAuthWait)

// ask is one request. again is when to ask once more, 0: never.
func (h *HTTP) ask(ctx context.Context, c Credentials) (v Verdict, again time.Duration) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.o.URL, nil)
	if err != nil {
		return Unavailable{OfRequest(err)}, 0
	}
	// Assigned, not Set: the names stay as nginx writes them, should a service mind.
	for name, value := range h.o.Headers {
		r.Header[name] = []string{value}
	}
	for name, value := range map[string]string{
		"Auth-Method": "plain", "Auth-Protocol": "imap", "Auth-User": authEscape(c.User), "Auth-Pass": authEscape(c.Password.Reveal()),
		"Auth-Login-Attempt": strconv.Itoa(max(c.Attempt, 1)), "User-Agent": "",
	} {
		r.Header[name] = []string{value}
	}
	if c.Client.IsValid() {
		r.Header["Client-IP"] = []string{c.Client.Unmap().WithZone("").String()}
	}
	if c.TLS {
		r.Header["Auth-SSL"] = []string{"on"}
	}
	if c.Mechanism == MechanismExternal {
		r.Header["Auth-Method"], r.Header["Auth-SSL-Verify"] = []string{"external"}, []string{"SUCCESS"}
	}
	resp, err := h.client.Do(r)
	if err != nil {
		return Unavailable{OfRequest(err)}, 0
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, maxHTTPBody); err != nil && !errors.Is(err, io.EOF) {
		return Unavailable{OfRequest(err)}, 0
	}
	if resp.StatusCode != http.StatusOK {
		return Unavailable{httpStatus(resp.StatusCode)}, 0
	}
	return httpVerdict(resp.Header, h.o.Names)
}

// httpStatus is an answer that isn't 200.
type httpStatus int

func (s httpStatus) Error() string {
	return fmt.Sprintf("the service answers %d, not 200", int(s))
}

// authEscape is ngx_mail_auth_http_escape: of all characters it writes controls, the space and the
// percent sign as %XX. DEL, which nginx sends, isn't allowed in a header.
func authEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '%' || c == 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Try implements Trier: it asks about a user that doesn't exist.
func (h *HTTP) Try(ctx context.Context) (string, error) {
	c := Credentials{User: "imapproxy-check@check.invalid", Password: telemetry.Secret(rand.Text()), Client: netip.AddrFrom4([4]byte{127, 0, 0, 1}), TLS: true, Attempt: 1}
	switch v := h.Authenticate(ctx, c).(type) {
	case Unavailable:
		return "", &Fault{fmt.Errorf("%s: %w", h.host, v.Err), mendHTTP(v.Err)}
	case Accepted:
		return "", &Fault{fmt.Errorf("%s accepts a user that doesn't exist, with a made-up password", h.host),
			"have the service check Auth-User and Auth-Pass, both percent-encoded"}
	}
	return h.host + " answers, and refuses a user that doesn't exist", nil
}

// TryCertified implements CertifierTrier: a service that looks at the password alone may let everyone in who sends none.
func (h *HTTP) TryCertified(ctx context.Context) (string, error) {
	c := Credentials{User: "imapproxy-check@check.invalid", Mechanism: MechanismExternal, Client: netip.AddrFrom4([4]byte{127, 0, 0, 1}), TLS: true, Attempt: 1}
	switch v := h.Certified(ctx, c).(type) {
	case Unavailable:
		return "", &Fault{fmt.Errorf("%s, with Auth-Method: external: %w", h.host, v.Err), mendHTTP(v.Err)}
	case Accepted:
		return "", &Fault{fmt.Errorf("%s accepts a certificate of a user that doesn't exist (Auth-Method: external)", h.host),
			"have the service look at Auth-Method, and refuse an empty Auth-Pass with any other than external"}
	}
	return h.host + " refuses a certificate of a user that doesn't exist", nil
}

// mendHTTP says what to do about an error of a request.
func mendHTTP(err error) string {
	var status httpStatus
	switch {
	case errors.As(err, &status) && (status == http.StatusUnauthorized || status == http.StatusForbidden):
		return "send the secret that the service wants, in headers = { … }, or let the proxy's address in there"
	case errors.As(err, &status) && status < http.StatusInternalServerError:
		return "correct url: its path is the service's, and it answers 200 whatever the verdict"
	case errors.As(err, &status):
		return "look into the service's own log"
	case errors.Is(err, errAuthAnswer):
		return "have the service answer with Auth-Status: OK or a text (docs/authentication.md, auth \"http\")"
	case errors.Is(err, ErrNotHTTP):
		return "correct url: what answers there isn't an HTTP service, or it speaks TLS and url begins with http://"
	case errors.Is(err, errLongWait):
		return "have the service decide earlier: logins wait for 15 s at most"
	}
	return cmp.Or(MendConnection(err, "the service", "url"), "correct url")
}

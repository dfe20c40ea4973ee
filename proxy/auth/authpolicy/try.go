package authpolicy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"

	"imapproxy/proxy/auth"
)

// checkUser is the user that Try asks about. No report names it, so the server counts nothing.
const checkUser = "imapproxy-check"

// Try asks about a login of a made-up user, from an address of a network of documentation (RFC 5737), and says in a few words what
// has answered. Its errors are an *auth.Fault.
func (c *Client) Try(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.asking.Timeout(), context.DeadlineExceeded)
	defer cancel()
	host := "the policy server"
	if u, err := url.Parse(c.o.URL); err == nil {
		host = u.Host // the rest may hold a secret
	}
	l := Login{Credentials: auth.Credentials{User: checkUser, Password: "-", Client: netip.AddrFrom4([4]byte{192, 0, 2, 1}), TLS: true}, Session: checkUser}
	said, err := c.allow(ctx, c.o.message(l))
	switch {
	case err != nil:
		return "", &auth.Fault{Err: fmt.Errorf("%s: %w", host, auth.Said(err)), Mend: mend(err)}
	case *said.Status < 0:
		return host + " answers, and refuses a made-up user", nil
	}
	return host + " answers", nil
}

// mend says what to do about an error.
func mend(err error) string {
	code, answered := errors.AsType[status](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	switch {
	case answered && (code == http.StatusUnauthorized || code == http.StatusForbidden):
		return "correct server_api_header_file"
	case answered && code < http.StatusInternalServerError, errors.Is(err, errJSON):
		return "correct server_url"
	case unknown:
		return "name the authority's certificate in ca_file"
	case name:
		return "write a name in server_url that the server's certificate is for"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start the policy server, or correct server_url"
	case errors.Is(err, context.DeadlineExceeded):
		return "see that the policy server answers, or write a longer server_timeout"
	}
	return "correct server_url"
}

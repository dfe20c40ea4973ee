package authpolicy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

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
	switch {
	case answered && (code == http.StatusUnauthorized || code == http.StatusForbidden):
		return "correct server_api_header_file"
	case answered && code < http.StatusInternalServerError, errors.Is(err, errJSON):
		return "correct server_url"
	case errors.Is(err, auth.ErrNotHTTP):
		return "correct server_url: what answers there isn't an HTTP service, or it speaks TLS and server_url begins with http://"
	case errors.Is(err, context.DeadlineExceeded):
		return "see that the policy server answers, or write a longer server_timeout"
	}
	return cmp.Or(auth.MendConnection(err, "the policy server", "server_url"), "correct server_url")
}

package oauthauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"imapproxy/proxy/auth"
)

// Try implements auth.Trier: it fetches the keys, or asks about a token that doesn't exist.
func (s *Source) Try(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.asking.Timeout(), errNoKeysYet)
	defer cancel()
	if s.keys != nil {
		set, err := s.keys.read(ctx)
		if err != nil {
			return "", &auth.Fault{Err: fmt.Errorf("%s: %w", s.o.Issuer, auth.Said(err)), Mend: mend(err)}
		}
		return fmt.Sprintf("%s has %d keys", s.o.Issuer, len(set)), nil
	}
	host := "the provider"
	if u, err := url.Parse(s.o.IntrospectionURL); err == nil {
		host = u.Host // the rest may hold a secret
	}
	var said claims
	form := url.Values{"token": {"imapproxy-check-" + rand.Text()}}
	err := s.web.post(ctx, s.o.IntrospectionURL, s.o.ClientID, s.o.ClientSecret.Reveal(), form, &said)
	active, ok := said["active"].(bool)
	switch {
	case err == nil && !ok:
		err = errJSON
	case err == nil && active:
		return "", &auth.Fault{Err: errors.New(host + " calls a made-up token active"), Mend: "correct introspection_url"}
	}
	if err != nil {
		return "", &auth.Fault{Err: fmt.Errorf("%s: %w", host, auth.Said(err)), Mend: mend(err)}
	}
	return host + " answers, and refuses a made-up token", nil
}

// mend says what to do about an error.
func mend(err error) string {
	var code status
	switch {
	case errors.As(err, &code) && (code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusBadRequest):
		return "correct client_id and client_secret_file, and let this client ask about tokens at the provider"
	case errors.As(err, &code) && code < http.StatusInternalServerError:
		return "correct the URL: issuer is what the tokens have as iss, and introspection_url is in the provider's OpenID configuration"
	case errors.Is(err, errIssuer):
		return "write issuer exactly as the provider's OpenID configuration has it, a slash at its end included"
	case errors.Is(err, errJSON), errors.Is(err, errNoKeys):
		return "correct issuer, jwks_url or introspection_url"
	case errors.Is(err, auth.ErrNotHTTP):
		return "correct the URL: what answers there isn't an HTTP service, or it speaks TLS and the URL begins with http://"
	}
	return cmp.Or(auth.MendConnection(err, "the provider", "its URL"), "correct the provider's URL")
}

package oauthauth

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"imapproxy/proxy/auth"
)

// signatures prove JSON Web Tokens by their issuer's keys.
type signatures struct {
	issuer, typ string
	algorithms  []jose.SignatureAlgorithm
	keys        *keys
}

func newSignatures(o Options, k *keys) *signatures {
	s := &signatures{issuer: o.Issuer, typ: o.Type, keys: k}
	for _, a := range o.Algorithms {
		s.algorithms = append(s.algorithms, jose.SignatureAlgorithm(a))
	}
	return s
}

// claims returns what a token says whose signature is its issuer's. A verdict ends the login.
func (s *signatures) claims(ctx context.Context, c auth.Credentials) (claims, auth.Verdict) {
	token, err := jwt.ParseSigned(c.Password.Reveal(), s.algorithms)
	if err != nil || len(token.Headers) != 1 {
		return nil, refused
	}
	var unproved struct {
		Issuer string `json:"iss"`
	}
	if err := token.UnsafeClaimsWithoutVerification(&unproved); err != nil {
		return nil, refused
	}
	if unproved.Issuer != s.issuer {
		return nil, auth.Unknown{} // another source may know it
	}
	header := token.Headers[0]
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); s.typ != "" && !strings.EqualFold(strings.TrimPrefix(strings.ToLower(typ), "application/"), s.typ) {
		return nil, refused
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.keys.timeout, errNoKeysYet)
	defer cancel()
	found, err := s.keys.find(ctx, header.KeyID)
	if err != nil {
		return nil, auth.Unavailable{Err: auth.Said(fmt.Errorf("the keys of the tokens' issuer: %w", err))}
	}
	for _, key := range found {
		if key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		var said claims
		if token.Claims(key.Key, &said) == nil {
			return said, nil
		}
	}
	return nil, refused
}

var errNoKeysYet = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)

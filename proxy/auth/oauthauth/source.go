package oauthauth

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"imapproxy/proxy/auth"
)

// Source checks bearer tokens. It has no passwords.
type Source struct {
	o      Options
	asking *auth.Asking
	web    *web
	prove  func(context.Context, auth.Credentials) (claims, auth.Verdict)
	keys   *keys   // nil: by introspection
	claims demands // what a token must say
}

// New makes the source. It connects to nothing yet.
func New(o Options) (*Source, error) {
	if o.CacheFor == 0 {
		o.CacheFor = DefaultCacheFor
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.UserClaim == "" {
		o.UserClaim = DefaultUserClaim
	}
	if len(o.Algorithms) == 0 {
		o.Algorithms = DefaultAlgorithms()
	}
	for _, a := range o.Algorithms {
		if !slices.Contains(Algorithms(), a) {
			return nil, errors.New("algorithms: there is none of that name with a public key")
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, u := range []string{o.Issuer, o.KeysURL, o.IntrospectionURL} {
		if parsed, err := url.Parse(u); u != "" && (err != nil || parsed.Scheme != "https" && parsed.Scheme != "http" || parsed.Host == "") {
			return nil, errors.New("not the URL of a provider")
		}
	}
	s := &Source{o: o, asking: auth.NewAsking(o.Asking)}
	s.web = newWeb(o, s.asking.Timeout())
	s.claims = demands{
		issuer: o.Issuer, audience: o.Audience, clients: o.Clients, scopes: o.Scopes,
		userClaim: o.UserClaim, grace: o.Grace, names: o.Names, introspected: o.IntrospectionURL != "",
	}
	switch {
	case o.IntrospectionURL != "":
		s.prove = newIntrospection(o, s.asking, s.web).claims
	case o.Issuer == "":
		return nil, errors.New("an issuer or an introspection URL is needed")
	default:
		s.keys = newKeys(o, s.web, s.asking.Timeout())
		s.prove = newSignatures(o, s.keys).claims
	}
	return s, nil
}

// Name implements auth.Source.
func (s *Source) Name() string { return cmp.Or(s.o.Name, "oauth") }

// Close implements auth.Source.
func (s *Source) Close() error {
	s.web.close()
	return nil
}

// Mechanisms implements auth.Speaker.
func (s *Source) Mechanisms() []string {
	return []string{auth.MechanismOAuthBearer, auth.MechanismXOAuth2}
}

// Wants implements auth.Challenger.
func (s *Source) Wants() (openIDConfiguration, scope string) {
	if s.o.Issuer != "" {
		openIDConfiguration = configurationOf(s.o.Issuer)
	}
	return openIDConfiguration, strings.Join(s.o.Scopes, " ")
}

// Authenticate implements auth.Source.
func (s *Source) Authenticate(ctx context.Context, c auth.Credentials) auth.Verdict {
	if !auth.OfToken(c.Mechanism) {
		return auth.Unknown{} // a password is never taken for a token
	}
	said, v := s.prove(ctx, c)
	if v != nil {
		return v
	}
	return s.claims.verdict(said, c.User, s.o.Now())
}

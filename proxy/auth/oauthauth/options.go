package oauthauth

import (
	"crypto/x509"
	"log/slog"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// Options are the options of New. Either Issuer is required or IntrospectionURL.
type Options struct {
	Name string // of the source, in metrics and logs; empty: oauth

	// Issuer is who makes the tokens, as their iss says. Its keys are found by its OpenID configuration.
	Issuer string
	// KeysURL is where its keys are, if not where the OpenID configuration says.
	KeysURL string
	// Algorithms are the signatures' algorithms that are accepted, of Algorithms; empty: DefaultAlgorithms.
	Algorithms []string

	// IntrospectionURL is asked about each token, in place of checking its signature. The proxy is known there
	// as ClientID, by ClientSecret.
	IntrospectionURL string
	ClientID         string
	ClientSecret     telemetry.Secret
	// CacheFor is how long an answer counts for further logins with the same token; 0: DefaultCacheFor.
	CacheFor time.Duration

	// Audience, Clients and Scopes are what a token is for: aud has one of Audience; azp (or client_id) is one of
	// Clients; scope has all of Scopes. Empty: anything will do.
	Audience, Clients, Scopes []string
	// Type is what a JWT's header says that it is (typ), at+jwt for an access token (RFC 9068); empty: anything.
	Type string
	// UserClaim is the claim with the user's name; empty: DefaultUserClaim.
	UserClaim string
	// Grace is by how much the clocks may differ; 0: DefaultGrace.
	Grace time.Duration

	Names   auth.Names
	RootCAs *x509.CertPool // nil: the system's
	Asking  auth.AskingOptions
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
}

// Defaults of Options.
const (
	DefaultCacheFor  = time.Minute
	DefaultGrace     = time.Minute
	DefaultUserClaim = "email"
)

// Algorithms are the algorithms that may be accepted: those with a public key. By HS256 all who know the public
// key could sign.
func Algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// DefaultAlgorithms are those that providers use.
func DefaultAlgorithms() []string { return []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"} }

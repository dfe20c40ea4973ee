// Package oauthauth is the credential source that checks OAuth 2.0 bearer tokens: JSON Web Tokens by the keys that
// their issuer publishes, or any token by asking the provider (RFC 7662).
//
// Imports proxy/auth and telemetry. Imported by internal/wiring.
package oauthauth

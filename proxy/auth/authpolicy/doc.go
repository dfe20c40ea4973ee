// Package authpolicy asks a policy server whether a login may go on, and reports how it ended, by the protocol that
// weakforced has and Dovecot speaks (auth_policy).
//
// Imports proxy/auth and telemetry. Imported by internal/app, internal/wiring,
// proxy and proxy/session.
package authpolicy

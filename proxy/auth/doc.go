// Package auth authenticates clients: it normalises user names, runs the server's side of the SASL
// mechanisms, and asks the sources of credentials.
//
// It opens no connection. If a backend has to check a password, the verdict is AskBackend, and package
// proxy/session makes the connection.
//
// The path of a login through this package:
//
//	mechanism ── Exchange ──┐
//	                        ├─ NewCredentials ── First ── Verdict
//	LOGIN command ──────────┘   (Names.Normalize)            └─ LogFailure
//
// Only NewCredentials makes a Credentials from a client's data, so that one name is hashed, looked up, routed
// by and logged.
//
// Imports internal/fair and telemetry. Imported by cmd/imapproxy, internal/app,
// internal/wiring, proxy, proxy/auth/authpolicy, proxy/auth/dovecotauth,
// proxy/auth/ldapauth, proxy/auth/oauthauth, proxy/auth/sqlauth and proxy/session.
package auth

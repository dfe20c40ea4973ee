// Package auth knows who a client is: it normalises user names, runs the
// server's side of the SASL mechanisms, and asks the sources of credentials.
//
// It opens no connection. Where a backend has to check a password, it answers
// AskBackend and leaves the connection to proxy.
//
// The way of a login through this package:
//
//	mechanism ── Exchange ──┐
//	                        ├─ NewCredentials ── First ── Verdict
//	LOGIN command ──────────┘   (Names.Normalize)            └─ LogFailure
//
// Nothing outside NewCredentials makes a Credentials from what a client said, so
// that the name which is hashed, looked up, routed by and logged is one and the
// same.
//
// Imports internal/fair and telemetry. Imported by cmd/imapproxy, internal/app,
// internal/wiring, proxy and proxy/session.
package auth

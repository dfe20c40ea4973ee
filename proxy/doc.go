// Package proxy is a client's session, from accept to logout.
//
// A session's life, in file names: listener.go accepts it (PROXY protocol,
// limits, TLS), prelogin.go greets and answers it until it has logged in,
// login.go authenticates it, picks its backend and logs in there, relay.go
// (commands.go one way, responses.go the other) carries IMAP between the two,
// end.go says why it ended and says so to the client. session.go holds what a
// session is; registry.go who is here.
//
// Imports internal/fair, proxy/auth, proxy/conn, proxy/park, proxy/upstream,
// proxy/wire, routing and telemetry. Imported by cmd/imapproxy, internal/admin,
// internal/app, internal/wiring and the end-to-end tests.
package proxy

// Package proxy is a client's session, from accept to logout.
//
// A session's life is a chain of phases: phase.go has what may follow what, and runs them. In
// file names: listener.go accepts a session (PROXY protocol, limits, TLS), prelogin.go greets and
// answers it until it has logged in, login.go authenticates it, attach.go picks its backend and logs in
// there, relay.go (commands.go one way, responses.go the other) carries IMAP between the
// two, detach.go takes its backend away, parked.go serves it without one, resume.go gives it one
// again, owing.go relays while the client can't be told of messages that are gone, and end.go has
// the reasons for which it ends. session.go has what a session is; signal.go what others may do
// to it; registry.go who is here.
//
// Imports internal/fair, proxy/auth, proxy/conn, proxy/imapclient, proxy/park,
// proxy/park/resync, proxy/park/view, proxy/upstream, proxy/wire, routing and
// telemetry. Imported by cmd/imapproxy, internal/admin, internal/app,
// internal/wiring and the end-to-end tests.
package proxy

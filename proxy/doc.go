// Package proxy is the proxy as clients see it: listeners with their certificates, the options and their
// reload, probes of backends, operators' actions on sessions, and shutdown. Package session serves a client
// from accept to logout; public.go has session's names for callers.
//
// Imports internal/fair, proxy/auth, proxy/auth/authpolicy, proxy/auth/clientcert,
// proxy/conn, proxy/guessing, proxy/park, proxy/park/view, proxy/session,
// proxy/shared, proxy/track, proxy/upstream, proxy/wire, routing,
// routing/discovery and telemetry. Imported by cmd/imapproxy, internal/admin,
// internal/app, internal/wiring and the end-to-end tests.
package proxy

// Package wire is IMAP's grammar as bytes in, units out: lines, literals, tags,
// verbs, response codes, capability lists (RFC 9051 §9, RFC 3501 §9, RFC 7888).
//
// It has no policy: no sockets, clocks or logs. What is to be done about a long
// line or a strange verb is its caller's decision. Nothing here holds a command
// or a response whole, but Reader, which is bounded and serves the time before
// login.
//
// Imports none of our packages. Imported by cmd/imapproxy, proxy,
// proxy/imapclient, proxy/park, proxy/park/resync, proxy/park/view, proxy/session,
// proxy/track, proxy/upstream, telemetry and the end-to-end tests.
package wire

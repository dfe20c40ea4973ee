// Package wire splits the bytes of an IMAP connection into units and reads them: lines, literals, tags,
// verbs, response codes, capability lists (RFC 9051 §9, RFC 3501 §9, RFC 7888).
//
// It has no policy, and no sockets, clocks or logs: the caller decides what to do about a long line or an
// unknown verb. Scanner holds no whole command or response. Reader does; its units are bounded, and it is
// used before login and for the proxy's own commands to a backend.
//
// Imports none of our packages. Imported by cmd/imapproxy, proxy,
// proxy/imapclient, proxy/park, proxy/park/resync, proxy/park/view, proxy/session,
// proxy/shared, proxy/track, proxy/upstream, telemetry and the end-to-end tests.
package wire

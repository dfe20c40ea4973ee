// Package upstream makes connections to backends, from dialling to the login as one user: TCP, TLS, greeting,
// capabilities, ID, login. The result is a Conn at a response boundary with no command in progress, ready for
// the relay. The pool keeps such connections for reuse.
//
// It also decides whether a master login may be used: does the backend log in the requested user (verify.go)?
//
// There are two kinds of failure, which are never mixed, since a mail client that is told
// AUTHENTICATIONFAILED stops trying. *Refused: the backend says that the user's credentials are wrong.
// *Unavailable: all other failures. The table that distinguishes them is in codes.go.
//
// A Conn has exactly one owner: the caller of Login, until it hands the Conn on. Nothing
// in this package keeps a reference to a Conn, and no goroutine of it
// outlives the call that started it.
//
// Imports internal/clock, proxy/conn, proxy/imapclient, proxy/wire and telemetry.
// Imported by cmd/imapproxy, internal/app, internal/movetest, internal/wiring,
// proxy, proxy/park, proxy/session and the end-to-end tests.
package upstream

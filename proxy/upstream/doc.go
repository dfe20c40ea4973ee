// Package upstream is a connection to a backend, from its dialling until it is
// logged in as one user: TCP, TLS, greeting, capabilities, ID, login. What comes
// out is a Conn at a response boundary with nothing in flight, ready to be
// relayed.
//
// It also answers the question that decides whether a master login may be used
// at all: does the backend log in the user that was asked for (verify.go)?
//
// Two kinds of failure leave this package, and they are never mixed, since a mail
// client that is told AUTHENTICATIONFAILED stops trying: *Refused, the backend
// says that the user's credentials are wrong; *Unavailable, everything else.
// The table that tells them apart stands in codes.go.
//
// A Conn has exactly one owner: the caller of Login, until it hands the Conn on. Nothing
// in this package keeps a reference to a Conn, and no goroutine of it
// outlives the call that started it.
//
// Imports proxy/conn, proxy/imapclient, proxy/wire and telemetry. Imported by
// cmd/imapproxy, internal/app, internal/movetest, internal/wiring, proxy,
// proxy/park, proxy/session and the end-to-end tests.
package upstream

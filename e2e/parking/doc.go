// Package parking proves on real servers that a client can't tell whether it is
// parked: each transcript of testdata is run on a server directly, where "wait
// parked" waits for nothing, and through a proxy that parks idle sessions.
//
// What needs the backend to change or fail at one moment is in Go, with a tap
// between proxy and server: a site is a server that many checks share, each with a lab of
// its own, a proxy that is started from a configuration (internal/apptest), and its users.
//
// Imports e2e/servers, internal/app, internal/apptest, internal/imaptest,
// internal/imaptest/consultest and proxy. Imported by none.
package parking

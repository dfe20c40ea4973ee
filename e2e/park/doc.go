// Package park holds the end-to-end tests of proxy/park's conversations with
// backends, and of the pool of warm connections, on real Dovecot, Cyrus and Courier
// without a proxy between.
//
// ./test prepares the machine for them.
//
// Imports e2e/servers, internal/imaptest, proxy/park, proxy/upstream and
// proxy/wire. Imported by none.
package park

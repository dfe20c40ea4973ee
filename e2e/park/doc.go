// Package park holds the end-to-end tests of proxy/park's conversations with
// backends, and of the pool of warm connections, on real Dovecot, Cyrus and Courier
// without a proxy between: the tests drive the hub, the strategies of a resync and the pool
// themselves. e2e/parking has the whole proxy.
//
// ./test prepares the machine for them.
//
// Imports e2e/servers, internal/imaptest, proxy/imapclient, proxy/park,
// proxy/park/resync, proxy/park/view, proxy/upstream, proxy/wire and telemetry.
// Imported by none.
package park

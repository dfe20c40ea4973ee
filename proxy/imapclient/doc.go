// Package imapclient is the proxy's IMAP client: it sends commands of the proxy's own on a
// backend connection and reads their answers (RFC 9051 §2.2.1).
//
// Package upstream logs in with it, step by step: Queue, Flush, Answer. All others send one
// command at a time (Do), or wait in IDLE (BeginIdle, Wait, Listen, EndIdle). The client
// matches answers by tag, bounds what a backend may send, and interrupts the connection when a
// context ends. It knows nothing of mailboxes: proxy/park/resync has a client that does.
//
// Imports proxy/conn and proxy/wire. Imported by cmd/imapproxy, proxy/park,
// proxy/park/resync, proxy/session, proxy/upstream and the end-to-end tests.
package imapclient

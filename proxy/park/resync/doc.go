// Package resync finds the state of a mailbox on a backend connection: the client that counts
// messages and selects mailboxes (Client), the set of messages that a session's client counts
// (Snapshot), and what a mailbox is like now or what has changed in it since (Strategy: QRESYNC, or
// comparison).
//
// Imports proxy/conn, proxy/imapclient, proxy/park/view and proxy/wire. Imported
// by cmd/imapproxy, proxy/park, proxy/session and the end-to-end tests.
package resync

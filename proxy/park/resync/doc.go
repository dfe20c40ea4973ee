// Package resync reads the state of a mailbox on a backend connection. It has the client that counts messages
// and selects mailboxes (Client), the set of messages that a session's client counts (Snapshot), and the
// strategies (Strategy) that find the mailbox's state, or what has changed in it: QRESYNC, and comparison.
//
// Imports proxy/conn, proxy/imapclient, proxy/park/view and proxy/wire. Imported
// by cmd/imapproxy, proxy/park, proxy/session and the end-to-end tests.
package resync

// Package idlers proves with programs that people use that a client can't tell
// whether it is parked: each idles for rounds, while others deliver and expunge
// mail at the server, and is parked in every one of them. It must see all of its
// mail, delete the right messages, and never be sent away. The proxy is started from a
// configuration (internal/apptest).
//
// A program that waits for an answer of a server that is stopped must wait on, as the proxy tells it that it is there.
//
// A round takes a second or two; IDLER_MINUTES has them go on for longer, with
// pauses as real mailboxes have.
//
// Imports e2e/servers, internal/app, internal/apptest, internal/imaptest,
// internal/task, proxy and proxy/session. Imported by none.
package idlers

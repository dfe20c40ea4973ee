// Package handover passes the listening sockets of a running process to its successor, so that a new release
// takes over without refusing a connection, and carries what the two processes have to tell each other while
// the old one still serves its sessions (docs/operations.md, "Upgrade").
//
//   - sockets.go: listening sockets that were bound elsewhere: by systemd (socket activation), or by the process
//     before this one
//   - conn.go: messages and sockets over a unix socket; both ends check each other's uid
//   - listen.go: the unix socket on which a process waits for its successor
//   - process.go: another process, and its end
//
// What the messages mean is internal/app's. The package makes no decision, and knows nothing of users.
//
// Imports none of our packages. Imported by cmd/imapproxy and internal/app.
package handover

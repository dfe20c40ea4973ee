// Package track follows what one client has sent and been told: its commands in flight with their literals
// and IDLE (command.go, inflight.go, inflight_follow.go, continuation.go), the effects of commands on the connection
// (words.go, arguments.go, quoting.go, changes.go), what was enabled and which mailbox is selected (client.go,
// client_commands.go, fetch.go), and which flags the client knows (known.go, known_fetched.go, known_stores.go,
// known_pairs.go, silent.go). From that it decides whether and how the session can be parked (park.go,
// blocker.go), how it continues when its backend connection is lost (lost.go), and how a command treats the selected
// mailbox (leaving.go, star.go).
//
// Its input is the heads and pieces of commands and responses. It reads no socket and no clock.
//
// Imports proxy/park/view and proxy/wire. Imported by proxy and proxy/session.
package track

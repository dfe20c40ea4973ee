// Package session is one client's session, from accept to logout.
//
// A session's life is a chain of phases: phase.go has what may follow what, and runs them.
// The files are named for them: login*.go answers the client until it has logged in, authenticates it and logs in
// to its backend; relay*.go carries IMAP between the two; park*.go takes the backend away
// and serves the client without one; resume.go gives it one again; catchup*.go relays while the
// client can't be told yet of messages that are gone. session.go has what a session is, signal.go what others
// may do to it, reason.go why it ends, registry.go all sessions that there are, and env.go what
// they share.
//
// Imports internal/fair, proxy/auth, proxy/conn, proxy/imapclient, proxy/park,
// proxy/park/resync, proxy/park/view, proxy/track, proxy/upstream, proxy/wire,
// routing and telemetry. Imported by proxy and the end-to-end tests.
package session

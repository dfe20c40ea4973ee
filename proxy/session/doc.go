// Package session serves one client's session, from accept to logout.
//
// A session is a chain of phases; phase.go says which phase may follow which, and runs them. The files are
// named after the phases: login*.go answers the client until it has logged in, authenticates it and logs in to
// its backend; relay*.go relays IMAP between client and backend; park*.go takes the backend connection away
// and serves the client without one; resume.go gets a backend connection again; recover.go does so after a
// loss; catchup*.go relays while the client can't be told yet of expunged messages.
//
// session.go has the data of a session and what sessions share, about.go what a session says of itself,
// registry.go the list of all sessions, signal.go what other goroutines may do to a session, reason.go why it
// ends, loss.go and recover.go how it survives the loss of its backend connection, backend.go how it gets
// connections, moved.go and letgo.go how it follows its user to another backend.
//
// Imports internal/clock, internal/fair, proxy/auth, proxy/auth/authpolicy,
// proxy/conn, proxy/guessing, proxy/imapclient, proxy/park, proxy/park/resync,
// proxy/park/view, proxy/shared, proxy/track, proxy/upstream, proxy/wire, routing
// and telemetry. Imported by cmd/imapproxy, internal/wiring, proxy and the
// end-to-end tests.
package session

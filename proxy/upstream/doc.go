// Package upstream is a connection to a backend, from its dialling until it is
// logged in as one user: TCP, TLS, greeting, capabilities, ID, login. What comes
// out is a Conn at a response boundary with nothing in flight, ready to be
// relayed.
//
// It also answers the question that decides whether a master login may be used
// at all: does the backend log in the user that was asked for (verify.go)?
//
// Two kinds of failure leave this room, and they are never mixed, since a mail
// client that is told AUTHENTICATIONFAILED stops trying: *Refused, the backend
// says that the user's credentials are wrong; *Unavailable, everything else.
// The table that tells them apart stands in codes.go.
//
// A Conn has exactly one owner: who called Login, until it hands it on. Nothing
// in this room keeps a reference to a Conn, and no goroutine of this room
// outlives the call that started it.
//
// Imported by proxy and proxy/park; imports wire, conn and telemetry.
package upstream

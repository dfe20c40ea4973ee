// Package guessing delays logins that may be guesses at passwords, by the address and the network that they
// come from and by the user. It bans no address and no user.
//
// Imports internal/fair. Imported by internal/wiring, proxy and proxy/session.
package guessing

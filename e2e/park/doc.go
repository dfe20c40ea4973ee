// Package park holds the end-to-end tests of proxy/park's conversations with
// backends, and of the pool of warm connections: real Dovecot, Cyrus and Courier,
// with nobody between but the bricks themselves.
//
// ./test prepares the machine for them.
package park

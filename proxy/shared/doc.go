// Package shared is the grammar of a namespace that the proxy adds to those of the backends: mailboxes of other
// users, whose mail is at other backends (docs/shared.md). It says which commands concern the namespace, finds
// and replaces the names of mailboxes in commands and responses, and answers LIST from what is known of the
// owners' mailboxes.
//
// It does no I/O, knows no sessions and decides about no rights: those are the business of the owner's backend.
//
// Imports proxy/wire. Imported by internal/wiring, proxy and proxy/session.
package shared

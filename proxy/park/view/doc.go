// Package view describes what a client knows of its mailbox and computes what it has to be told. It is pure:
// it has no sockets, clocks, locks or logs.
//
// A View is what a client has been told of its mailbox: name, UIDs, flags, a lower bound of the mod-sequence.
// A State is what a resync found in the mailbox. Compare returns the Difference between the two, which
// Difference.AppendTo renders in the client's Dialect (RFC 9051 §7.5.1, RFC 7162). SequenceMap translates
// message numbers in commands and responses while EXPUNGEs to the client are deferred. The package also has
// sets of UIDs (UIDs) and of flags (Flags), and the encodings of mailbox names (DecodeMailbox).
//
// Imports proxy/wire. Imported by internal/app, proxy, proxy/park,
// proxy/park/events, proxy/park/resync, proxy/session, proxy/track and the
// end-to-end tests.
package view

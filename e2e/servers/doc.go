// Package servers starts real IMAP servers for the end-to-end tests: Dovecot
// (2.3 and 2.4), Cyrus, Courier and mox, each on loopback ports and in a folder of
// its own, ended with the test.
//
// ./test prepares the machine and sets IMAPPROXY_REAL; without that variable
// every function here skips the test.
//
// Every server has the same users, User(1) to User(Users), each with Password,
// and, but for mox, a master, MasterUser with MasterPassword, who may log in as
// any of them by SASL PLAIN with an authorization id.
//
// Imports internal/imaptest. Imported by the end-to-end tests.
package servers

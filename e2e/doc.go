// Package e2e holds the end-to-end tests: the imapproxy command, built and
// configured as a provider would, between real clients and real servers: a process, with its
// signals, files, exit codes and other verbs. What looks into the proxy starts internal/app in
// the test's process instead (internal/apptest), as e2e/parking, e2e/idlers and e2e/model do.
//
// ./test prepares the machine for them. Transcripts are in testdata, each run
// against a server directly and through the proxy, and compared.
//
// Imports e2e/servers, internal/app, internal/apptest, internal/imaptest and
// internal/imaptest/consultest. Imported by none.
package e2e

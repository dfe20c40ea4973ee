// Package e2e holds the end-to-end tests: the imapproxy command, built and
// configured as a provider would, between real clients and real servers.
//
// ./test prepares the machine for them. Transcripts are in testdata, each run
// against a server directly and through the proxy, and compared.
//
// Imports e2e/servers, internal/imaptest and internal/imaptest/consultest.
// Imported by none.
package e2e

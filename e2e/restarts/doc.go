// Package restarts has the tests of what clients notice when their backend is killed, restarted, reset, stopped or cut
// off from the network: real servers, a proxy, and clients that work all the time and check what they are told. They
// run in a network namespace, whose firewall they may change.
//
// Imports e2e/servers and internal/imaptest. Imported by none.
package restarts

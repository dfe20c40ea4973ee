// Package push holds the end-to-end tests of push events: real Dovecot with
// contrib/dovecot/push.lua and with its OX driver, and real Cyrus with
// contrib/cyrus/notify, telling the handler of proxy/park. There is no proxy: the tests are about the events that
// each sender posts and the hints that they become, one by one. e2e/parking and e2e/model
// have such servers before a whole proxy.
//
// ./test prepares the machine for them.
//
// Imports e2e/servers, internal/imaptest, proxy/park, proxy/park/events and
// telemetry. Imported by none.
package push

// Package app runs one proxy: it opens all parts in order, serves, applies reloads, and closes
// the parts in order. `imapproxy serve`, `imapproxy dev` and the end-to-end
// tests start a proxy by this package, from a configuration.
//
// # Life
//
//	Open    reads the configuration, makes all parts and binds all addresses. It serves no client.
//	Run     serves until its context ends, drains the sessions, and stops all that it has started.
//	Reload  at any time while Run runs: applies new settings, all or none.
//	Close   releases what Open opened, whether Run has run or not.
//
// Open makes the parts in the order in which they need each other: the log and the other
// telemetry, routing, the count of backend connections, discovery's source, the credential
// sources, parking, the server; then it binds: the admin API, the address of push events, the
// listeners. The listeners come last, since a successor of this process would take them over.
// On error all of it is freed again.
//
// Run begins: parking, discovery, registration in Consul, the admin API, push events, the
// listeners. It ends in the order in which others could notice: registration first, so that no
// more clients are sent here; then the listeners and, within shutdown.drain, the sessions;
// parking with the connections that no session holds; push events, the admin API, discovery.
//
// # Owners
//
// What Open makes and no reload replaces is never written again (the fields above the line in
// App). What a reload replaces belongs to the goroutine that calls Open, Run and Close;
// Reload hands its request to Run's goroutine and waits for the answer. Each goroutine that
// Run starts is a task of Run's, which stops it and waits for it. Sessions belong to the
// server.
//
// The package keeps no state outside an App: several run in one process.
//
// Imports internal/admin, internal/config, internal/handover, internal/peers,
// internal/postfix, internal/problems, internal/task, internal/wiring, proxy,
// proxy/auth, proxy/auth/authpolicy, proxy/park, proxy/park/events,
// proxy/park/view, proxy/upstream, routing, routing/agree, routing/cluster,
// routing/discovery, routing/pair and telemetry. Imported by cmd/imapproxy,
// internal/apptest and the end-to-end tests.
package app

// Package peers makes requests to the other proxies of the same service: Fleet asks all of them the same
// question over their admin APIs, Outbox sends them hints about changes in mailboxes. The caller says where
// they are (from Consul, or a list). This package doesn't decide which backend a user goes to.
//
// A proxy that doesn't answer in time is named in the answer. A proxy that finds itself among its
// peers is left out: each process has an id of its own, which it sends along.
//
// Imports proxy/park and telemetry. Imported by internal/admin, internal/app and internal/wiring.
package peers

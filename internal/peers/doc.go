// Package peers speaks to the other proxies of the same service: Fleet asks all of them the same
// question over their admin APIs, Outbox brings them what happened in mailboxes. Where they are is
// said by others (Consul, or a list), and who goes to which backend isn't decided here.
//
// A proxy that doesn't answer in time is named in the answer. A proxy that finds itself among its
// peers is left out: each process has an id of its own, which it sends along.
//
// Imports proxy/park and telemetry. Imported by internal/admin, internal/app and internal/wiring.
package peers

// Package cluster takes part, for this proxy, in the agreement of all proxies of a service
// (docs/cluster.md): it runs an agree.Member on Consul. The Member decides; this package makes the Member's
// requests, watches the keys, keeps the time and makes claims wait.
//
//   - cluster.go: the Cluster, its lock, and its goroutines
//   - claim.go: Claim and Hold; each connection to a backend has a Hold while it lives
//   - consul.go: the requests to Consul
//   - try.go: Try, which tries the rights of a token
//
// One lock guards the Member. Nothing waits under it: requests, effects and waiting claims are handled
// outside it.
//
// Imports routing, routing/agree, routing/discovery and telemetry. Imported by
// cmd/imapproxy, internal/app and internal/wiring.
package cluster

// Package cluster has this proxy take part in the agreement of all proxies of a service (docs/cluster.md): it runs an agree.Member
// on Consul. All decisions are the Member's; this package makes its requests, watches the keys, keeps the time and
// lets claims wait.
//
//   - cluster.go: the Cluster, its lock, and its goroutines
//   - claim.go: Claim and Hold, which every connection to a backend has while it lives
//   - consul.go: the requests to Consul
//
// One lock guards the Member. Nothing waits under it: requests, effects and claims that wait are outside.
//
// Imports routing, routing/agree, routing/discovery and telemetry. Imported by
// internal/app and internal/wiring.
package cluster

// Package agree has several proxies agree on where each user is: docs/cluster.md says what is promised and by which rules.
// It is the decision code alone: events in, requests to Consul and effects out. It has no goroutines, no sockets and no clock.
//
// # How it is used
//
// A Member is one proxy's part. The product around it has one lock for it, and does four things:
//
//   - It makes the requests that Take gives, each in a goroutine of its own with a deadline of OpTimeout, and calls Done with each outcome.
//   - It watches the prefix imapproxy/SERVICE/ (a blocking query, at most five times a second), decodes the answers by a Decoder, and
//     calls Read. It calls Discover with each answer of discovery, Unreachable when what it can't reach changes, and Tick ten times a second.
//   - Before each dial of a backend connection, of any part of the proxy, it calls Claim. Go: the connection may be made, and counts
//     until Release. Wait: it waits until Version has changed (a channel that the caller closes whenever it has), and claims again.
//   - It does what Take's effects say: LetGo parks or closes a user's connections, CloseAll all of them.
//
// After each call, still under the lock, it calls Take; it does what that gives without the lock. Two things more
// are compared outside: Deadline, kept in an atomic word, with the clock at each command boundary; and a timer at Deadline that calls Tick.
//
//	mu.Lock()
//	answer := member.Claim(user, placement, time.Now())
//	ops, effects := member.Take()
//	version := member.Version()
//	mu.Unlock()
//
// The fleet that Fleet gives takes the place of discovery's answer in routing: its addresses and states are what connections are made by.
//
// # What is where
//
//   - fleet.go, record.go, codec.go, reading.go: the values in Consul, their validation, one read of them
//   - member.go: what a Member is and the events; options.go, op.go: what goes in and comes out
//   - read.go: a reading; switchTo is rule 1's point in time
//   - claim.go, judge.go, holds.go: rule 2; table.go: choice
//   - write.go: rules 1, 3 and 4, as far as they write
//   - session.go, join.go: rule 5, joining, leaving
//   - moves.go: rule 7; next.go, writer.go: the next fleet, rule 6, overrides
//   - status.go: what operators are shown
//
// Its tests are a simulation with a fake of Consul and faults (sim_test.go); routing/agree/epochs is a checker of the rules.
//
// Imports routing. Imported by internal/app, internal/wiring and routing/cluster.
package agree

// Package agree makes several proxies agree on where each user is. docs/cluster.md describes what is
// promised and the rules of the protocol. This package is only the code that decides: events go in; requests
// to Consul and effects come out. It has no goroutines, no sockets and no clock.
//
// # How it is used
//
// A Member is one proxy's part in the agreement. The code that runs a Member guards it by one lock, and does
// four things:
//
//   - It makes the requests that Take returns, each in a goroutine of its own with a deadline of OpTimeout,
//     and calls Done with the result of each.
//   - It watches the prefix imapproxy/SERVICE/ (a blocking query, at most five times a second), decodes the
//     answers by a Decoder, and calls Read. It calls Discover with each answer of discovery, Unreachable when
//     the set of backends that it can't reach changes, and Tick ten times a second.
//   - Before each dial of a backend connection, in any part of the proxy, it calls Claim. Go: the connection
//     may be made, and counts until Release. Wait: it waits until Version has changed, and claims again. (The
//     caller has a channel that it closes at each change of Version.)
//   - It does what the effects that Take returns say: LetGo parks or closes a user's connections, CloseAll
//     closes all connections.
//
// After each call, still under the lock, it calls Take, and acts on the result after it has released the
// lock. Two more things happen outside the lock: Deadline, kept in an atomic word, is compared with the
// clock at each command boundary; and a timer at Deadline calls Tick.
//
//	mu.Lock()
//	answer := member.Claim(user, placement, time.Now())
//	ops, effects := member.Take()
//	version := member.Version()
//	mu.Unlock()
//
// Routing uses the fleet that Fleet returns in place of discovery's answer: connections are made by its
// addresses and states.
//
// # What is where
//
//   - fleet.go, record.go, codec.go, reading.go: the values in Consul, their validation, one read of them
//   - member.go: what a Member is, and the events; options.go: the settings; op.go: requests, results and
//     effects
//   - read.go: what a Member does with a reading; switchTo is the point in time of rule 1
//   - claim.go, judge.go, holds.go: rule 2; table.go: choice
//   - write.go: what rules 1, 3 and 4 write
//   - session.go, join.go: rule 5, joining, leaving
//   - moves.go: rule 7; next.go, writer.go: the next fleet, rule 6, overrides
//   - status.go: what operators are shown
//
// The tests are a simulation with a fake of Consul and faults (sim_test.go); routing/agree/epochs is a
// program that checks the rules.
//
// Imports routing. Imported by cmd/imapproxy, internal/app, internal/wiring and
// routing/cluster.
package agree

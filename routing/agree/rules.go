package agree

// rule is a part of the protocol that tests can leave out, to see that the simulation finds the violation. A
// Member of the product has all rules.
type rule uint32

const (
	ruleStays    rule = 1 << iota // rule 1: a switch publishes its stays
	ruleAll                       // rule 2: a claim waits for all proxies to ack if choice differs
	ruleFollow                    // rule 3: a follow checks that the other proxy's stay still stands
	ruleVoid                      // rule 4: readings from before a stay was let go of are void
	ruleTrust                     // rule 5: a proxy stops trusting what it knows before others take it for dead
	ruleYield                     // rule 5: a proxy that comes back yields
	ruleMajority                  // rule 6: a backend that only one proxy can't reach isn't down
	ruleOrphan                    // rule 5: a key without a session counts for a whole TTL
	ruleSteady                    // overrides: a claim waits while some fleets have an override of the user and some have none
	ruleNamed                     // overrides: a switch publishes the stays of users whose overrides change
	ruleRestored                  // a proxy that notices that Consul's state was restored waits until the others have noticed
	ruleDamp                      // no backend's state changes back within flap_damp
	ruleJoin                      // joining: a proxy joins with the newest fleet
	ruleAbort                     // rule 7: a connection to a backend that is down for failover_after ends with its socket
	ruleFew                       // rule 7: few users who can't leave are named, and the rest of their bucket moves
	ruleTurn                      // rule 7: during a turn claims wait, and no stay is followed
	ruleTogether                  // rule 7: no turn begins, and no stay is let go of, before all fleets that proxies go by agree
	ruleClose                     // with Hold, a proxy that stops trusting what it knows closes all connections
	ruleStuck                     // rule 5: a proxy that can't ack doesn't renew its session
)

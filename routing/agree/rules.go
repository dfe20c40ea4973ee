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
)

package agree

// rule is a part of the protocol that tests leave out, to see that the simulation catches it. A Member of the product has
// all of them.
type rule uint32

const (
	ruleStays    rule = 1 << iota // 1: a switch publishes its stays
	ruleAll                       // 2: a claim waits for all proxies to ack, where choice differs
	ruleFollow                    // 3: a follow checks that the other's stay still stands
	ruleVoid                      // 4: readings from before a stay was let go of are void
	ruleTrust                     // 5: a proxy stops to trust itself before others take it for dead
	ruleYield                     // 5: who comes back yields
	ruleMajority                  // 6: a backend that one proxy can't reach isn't down
	ruleOrphan                    // C: a key without a session counts for a whole TTL
	ruleSteady                    // D: a claim waits while some fleets have an override of the user and some have none
	ruleNamed                     // D: a switch publishes the stays of users whose overrides change
	ruleRestored                  // who notices that Consul's state was restored waits for the others to notice it
	ruleDamp                      // I: no backend's state is reverted within flap_damp
)

func (m *Member) has(r rule) bool { return m.without&r == 0 }

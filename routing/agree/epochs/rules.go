package main

// rule is a rule that can be left out, to see that it is needed.
type rule int

const (
	allRules rule = iota
	ruleStays
	ruleAll
	ruleFollow
	ruleVoid
	ruleReading
	ruleJoin
	ruleDeath
	rulePin
	ruleSteady
	ruleUserFirst
	ruleOverrideAdded
	ruleOverrideRemoved
	rulesEnd
)

// words name the rules as docs/cluster.md does.
var words = [rulesEnd]string{
	ruleStays:           "stays",            // a switch publishes its stays
	ruleAll:             "all",              // a claim waits for all proxies to ack if choice differs
	ruleFollow:          "follow",           // a follow checks that the other proxy's stay still stands
	ruleVoid:            "void",             // readings from before a stay was let go of are void
	ruleReading:         "reading",          // a claim's reading is of the proxy's epoch, from after its ack
	ruleJoin:            "join",             // a proxy joins with the newest epoch
	ruleDeath:           "death",            // a key isn't removed while its proxy lives
	rulePin:             "pin",              // a user who was let go of has no pin any more
	ruleSteady:          "steady",           // a claim waits while the user's override differs between fleets
	ruleUserFirst:       "user-first",       // a user's stay comes before the bucket's
	ruleOverrideAdded:   "override-added",   // a switch that adds an override publishes the user's own stay
	ruleOverrideRemoved: "override-removed", // a switch that removes an override does the same, wherever the user is
}

func (r rule) String() string { return words[r] }

func ruleNames() []string { return words[1:] }

func ruleNamed(name string) (rule, bool) {
	for r, word := range words {
		if r > 0 && word == name {
			return rule(r), true
		}
	}
	return 0, false
}

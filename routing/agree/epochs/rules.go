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

// sequences returns all sequences of fleets with the given numbers of epochs and backends. The first fleet
// sends the bucket to x.
func sequences(epochs int, backends backend) []scenario {
	all := []scenario{{}}
	for e := 1; e <= epochs; e++ {
		var longer []scenario
		for _, s := range all {
			for b := x; b <= backends; b++ {
				if e == 1 && b != x {
					continue
				}
				for o := none; o <= backends; o++ {
					s.bucket[e], s.override[e] = b, o
					longer = append(longer, s)
				}
			}
		}
		all = longer
	}
	return all
}

// telling are the sequences that show most: the bucket moves and comes back; an override is added, removed
// and changed while the bucket moves.
var telling = []scenario{
	{bucket: [maxEpochs + 1]backend{1: x, 2: y, 3: x}},
	{bucket: [maxEpochs + 1]backend{1: x, 2: y, 3: y}, override: [maxEpochs + 1]backend{1: y}},
	{bucket: [maxEpochs + 1]backend{1: x, 2: y, 3: y}, override: [maxEpochs + 1]backend{2: x}},
	{bucket: [maxEpochs + 1]backend{1: x, 2: y, 3: y}, override: [maxEpochs + 1]backend{2: y}},
	{bucket: [maxEpochs + 1]backend{1: x, 2: x, 3: y}, override: [maxEpochs + 1]backend{1: x, 2: y}},
}

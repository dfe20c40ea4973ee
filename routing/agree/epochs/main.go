// Command epochs checks the protocol of docs/cluster.md by going through all its interleavings: a few
// proxies, two users of one bucket, of which an operator moves one by overrides, a few fleets, crashes, lost
// Consul sessions, rejoins. More users and buckets would add nothing, since each bucket is decided alone.
//
//	go run ./routing/agree/epochs -all=false             two proxies, three epochs, selected sequences of fleets: minutes
//	go run ./routing/agree/epochs                        all sequences: hours
//	go run ./routing/agree/epochs -without follow        without one rule: a violation, and the steps that lead to it
//
// It has no clocks and no lost answers: the simulation in routing/agree has them, with the product's code.
//
// Imports none of our packages. Imported by none.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	var (
		proxies  = flag.Int("proxies", 2, "2 or 3")
		epochs   = flag.Int("epochs", 3, "1 to 4")
		backends = flag.Int("backends", 2, "2 or 3")
		all      = flag.Bool("all", true, "all sequences of fleets, not only those that say most")
		without  = flag.String("without", "", "rules to leave out, with commas: "+strings.Join(ruleNames(), ", "))
	)
	flag.Parse()
	m := model{proxies: *proxies, last: int8(*epochs)}
	if *proxies < 2 || *proxies > maxProxies || *epochs < 1 || *epochs > maxEpochs || *backends < 2 || *backends > 3 {
		flag.Usage()
		os.Exit(2)
	}
	if *without != "" {
		for _, name := range strings.Split(*without, ",") {
			r, known := ruleNamed(name)
			if !known {
				flag.Usage()
				os.Exit(2)
			}
			m.without = append(m.without, r)
		}
	}
	scenarios := telling
	if *all {
		scenarios = sequences(*epochs, backend(*backends))
	}
	states := 0
	for _, s := range scenarios {
		m.scenario = s
		n, bad := m.explore()
		states += n
		if bad != nil {
			fmt.Printf("violation, after %d states, where the fleets are %v:\n%s", states, s.text(m.last), bad)
			os.Exit(1)
		}
		if !*all {
			fmt.Printf("%v: %d states\n", s.text(m.last), n)
		}
	}
	fmt.Printf("%d sequences of fleets, %d states, no violation\n", len(scenarios), states)
}

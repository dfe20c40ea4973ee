package routing

import "testing"

// Each case is one of the rules above choose, as a script.
func TestSharedStorage(t *testing.T) {
	for name, text := range map[string]string{
		"nothing is known before the first answer": `
			pick a u123 = not-ready
			fleet
			pick a u123 = not-ready`,
		"a new user goes to the first of his order": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			pick b u321 = b3 rendezvous`,
		"a new user passes by what is down, draining or of no weight": `
			fleet b1=down b2 b3
			pick a u123 = b2 rendezvous
			fleet b1=draining b2 b3
			pick b u132 = b3 rendezvous
			fleet b1=up/0 b2 b3
			pick c u123 = b2 pin
			release c
			release a
			pick d u123 = b2 rendezvous`,
		"nobody takes new users": `
			fleet b1=down b2=draining b3=up/0
			pick a u123 = no-backend`,
		"the second session follows the first, whatever joins": `
			fleet b2 b3
			pick a u123 = b2 rendezvous
			confirm a = true
			fleet b1 b2 b3
			pick b u123 = b2 pin`,
		"the pin outlives the sessions by the grace, no longer": `
			fleet b2 b3
			pick a u123 = b2 rendezvous
			confirm a = true
			release a
			fleet b1 b2 b3
			after 9m59s
			pins u123 = b2
			pick b u123 = b2 pin
			confirm b = true
			after 1h
			release b
			after 10m
			pins u123 = none
			pick c u123 = b1 rendezvous`,
		"who never got in leaves no pin": `
			fleet b2 b3
			pick a u123 = b2 rendezvous
			release a
			pins u123 = none
			fleet b1 b2 b3
			pick b u123 = b1 rendezvous`,
		"a refused login doesn't lengthen the grace of others": `
			fleet b2 b3
			pick a u123 = b2 rendezvous
			confirm a = true
			release a
			after 6m
			pick b u123 = b2 pin
			release b
			after 4m
			pins u123 = none`,
		"pinned users stay on a draining backend, in their grace too": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			fleet b1=draining b2 b3
			pick b u123 = b1 pin
			release a
			release b
			after 5m
			pick c u123 = b1 pin
			pick d u132 = b3 rendezvous
			void c = false`,
		"pinned users stay on a backend whose weight became 0": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			fleet b1=up/0 b2 b3
			pick b u123 = b1 pin`,
		"with nobody there a pin to what is down moves at once": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			release a
			fleet b1=down b2 b3
			pick b u123 = b2 failover
			fleet b1 b2 b3
			pick c u123 = b2 pin`,
		"live sessions hold the user until failover_after, then have to leave": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			after 1m
			fleet b1=down b2 b3
			pick b u123 = down
			after 29s
			pick b u123 = down
			void a = false
			after 1s
			pick b u123 = b2 failover
			void a = true
			confirm b = true
			release a
			pins u123 = b2
			pick c u123 = b2 pin`,
		"back in time: the held user stays": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			fleet b1=down b2 b3
			after 20s
			fleet b1 b2 b3
			after 20s
			pick b u123 = b1 pin
			void a = false`,
		"a backend that isn't listed any more is like one that is down": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			fleet b2 b3
			state b1 = down  gone
			pick b u123 = down
			after 30s
			pick b u123 = b2 failover
			void a = true`,
		"a refused dial sends a new user to the next": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			fail b1
			release a
			pick a u123 tried b1 = b2 failover
			fail b2
			release a
			pick a u123 tried b1,b2 = b3 failover
			fail b3
			release a
			pick a u123 tried b1,b2,b3 = no-backend`,
		"a refused dial doesn't move a user who is working there": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			pick b u123 = b1 pin
			fail b1
			release b
			pick b u123 tried b1 = down
			void a = false
			after 15s
			pick b u123 = b1 pin
			fail b1
			release b
			pick b u123 tried b1 = down
			after 15s
			pick b u123 = b1 pin
			fail b1
			release b
			pick b u123 tried b1 = b2 failover
			void a = true`,
		"a success in between starts the time anew": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			fail b1
			after 29s
			ok b1
			after 10s
			pick b u123 = b1 pin
			fail b1
			release b
			pick b u123 tried b1 = down`,
		"four connections at once that are all refused all move": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			pick b u123 = b1 pin
			pick c u123 = b1 pin
			fail b1
			release a
			pick a u123 tried b1 = b2 failover
			void b = true
			confirm b = false
			release b
			release c
			pick b u123 tried b1 = b2 pin
			pick c u123 = b2 pin
			confirm a = true
			confirm b = true
			confirm c = true`,
		"a login that succeeds after its user moved must not stay": `
			fleet b1 b2 b3
			pick slow u123 = b1 rendezvous
			pick fast u123 = b1 pin
			fail b1
			release fast
			pick fast u123 tried b1 = b2 failover
			confirm fast = true
			confirm slow = false
			release slow
			pins u123 = b2`,
		"a backend that keeps refusing isn't tried by new users": `
			fleet b1 b2 b3
			fail b1
			fail b1
			pick a u123 = b1 rendezvous
			release a
			fail b1
			pick b u123 = b2 failover
			release b
			after 5s                        # no user tries it for the others: a probe does
			pick c u123 = b2 failover
			confirm c = true
			release c
			pick d u132 = b3 failover
			release d
			ok b1                           # the probe's success
			pick e u132 = b1 rendezvous`,
		"a login on a connection that was there already is no news of its backend": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			fail b1
			fail b1
			fail b1
			confirm a = true
			pick b u132 = b3 failover`,
		"probes are due at once, every second while in doubt, then every 5": `
			fleet b1 b2 b3
			trials = none
			fail b1
			trials = b1
			trials = none
			fail b1
			after 1s
			trials = b1
			fail b1
			after 1s
			trials = b1                     # it was due before it was clear
			after 4s
			trials = none
			fail b2
			trials = b2
			after 1s
			trials = b1 b2
			ok b1
			ok b2
			after 1m
			trials = none`,
		"parked sessions hold nobody on a dead backend": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			rest a = true
			fail b1
			pick b u123 tried b1 = b2 failover
			void a = true
			hold a = false
			confirm b = true
			release a
			pins u123 = b2`,
		"one that is attached holds its user, parked ones beside it or not": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			pick b u123 = b1 pin
			confirm b = true
			rest a = true
			rest a = true                   # once too often does nothing
			pick c u123 tried b1 = down
			rest b = true
			hold a = true
			pick c u123 tried b1 = down
			release a
			pick c u123 tried b1 = b2 failover
			void b = true`,
		"nobody waits for what keeps refusing: not by his placement, not by an idle pin": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			release a
			fail b1
			fail b1
			fail b1
			pick a u123 = b2 failover
			pick b u231 at b1 = b2 failover`,
		"live sessions on what keeps refusing are followed there, for a while": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			fail b1
			fail b1
			fail b1
			pick b u123 = b1 pin
			release b
			after 28s
			fail b1
			after 2s
			pick b u123 = b2 failover
			void a = true`,
		"an old failure isn't the beginning of a new run": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			fail b1
			after 11m
			pick b u123 = b1 pin
			fail b1
			release b
			pick b u123 tried b1 = down`,
		"a failed login after a failover keeps the pin and doesn't lengthen it": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			release a
			after 6m
			fleet b1=down b2 b3
			pick b u123 = b2 failover
			release b
			pins u123 = b2
			after 4m
			pins u123 = none`,
		"where all refuse the best is tried": `
			fleet b1 b2
			fail b1
			fail b1
			fail b1
			fail b2
			fail b2
			fail b2
			pick a u123 = b1 rendezvous`,
		"good news from discovery ends a run of failures": `
			fleet b1 b2 b3
			fail b1
			fail b1
			fail b1
			fleet b1=down b2 b3
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous`,
		"a placement goes before the order": `
			fleet b1 b2 b3
			pick a u123 at b3 = b3 placement
			confirm a = true
			pick b u123 at b3 = b3 placement
			pick c u123 = b3 pin`,
		"a placement may name what has no weight": `
			fleet b1 b2 b3=up/0
			pick a u123 at b3 = b3 placement`,
		"a placement doesn't send a new user to what is draining": `
			fleet b1 b2 b3=draining
			pick a u123 at b3 = b1 failover`,
		"who is placed and pinned on what is draining stays": `
			fleet b1 b2 b3
			pick a u123 at b3 = b3 placement
			confirm a = true
			fleet b1 b2 b3=draining
			pick b u123 at b3 = b3 placement`,
		"a new placement moves the user, and his sessions have to leave": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			confirm a = true
			pick b u123 at b3 = b3 placement
			void a = true
			confirm a = false`,
		"a placement that is down fails over; its sessions aren't torn away when it is back": `
			fleet b1 b2 b3=down
			pick a u123 at b3 = b1 failover
			confirm a = true
			fleet b1 b2 b3
			pick b u123 at b3 = b1 pin
			void a = false
			release a
			release b
			pick c u123 at b3 = b3 placement`,
		"a new placement that can't be followed leaves the user where he is": `
			fleet b1 b2 b3=down
			pick a u123 = b1 rendezvous
			confirm a = true
			pick b u123 at b3 = b1 pin
			pick c u123 at nowhere = b1 pin
			fleet b1 b2 b3
			pick d u123 at b3 = b3 placement
			void a = true`,
		"a placement nobody knows is as good as none": `
			fleet b1 b2 b3
			pick a u123 at nowhere = b1 failover`,
		"a placement removed leaves the pin": `
			fleet b1 b2 b3
			pick a u123 at b3 = b3 placement
			confirm a = true
			pick b u123 = b3 pin`,
		"the whole fleet down is kept, and dials decide": `
			fleet b1 b2 b3
			fleet b1=down b2=down b3=down
			pick a u123 = b1 rendezvous
			fail b1
			release a
			pick a u123 tried b1 = b2 failover`,
		"an empty answer changes nothing": `
			fleet b1 b2 b3
			pick a u123 = b1 rendezvous
			fleet
			pick b u123 = b1 pin
			state b2 = up`,
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, Options{Storage: Shared, PinGrace: 10 * 60e9}, text)
		})
	}
}

func TestSeparateStorage(t *testing.T) {
	for name, text := range map[string]string{
		"no placement, no backend": `
			fleet b1 b2 b3
			pick a u123 = no-placement`,
		"not even where the user is": `
			fleet b1 b2 b3
			pick a u123 at b1 = b1 placement
			confirm a = true
			pick b u123 = no-placement`,
		"the placement and nothing else": `
			fleet b1 b2 b3
			pick a u123 at b3 = b3 placement
			fail b3
			release a
			pick b u123 at b3 tried b3 = down
			fleet b1 b2 b3=down
			pick b u123 at b3 = down
			after 1h
			pick b u123 at b3 = down`,
		"a typing error isn't a reason to go elsewhere": `
			fleet b1 b2 b3
			pick a u123 at b4 = unknown-placement`,
		"one that left is unknown, even while users are pinned to it": `
			fleet b1 b2 b3
			pick a u123 at b3 = b3 placement
			confirm a = true
			fleet b1 b2
			pick b u123 at b3 = unknown-placement`,
		"draining takes the users who have no other home": `
			fleet b1 b2 b3=draining
			pick a u123 at b3 = b3 placement`,
		"weight 0 too": `
			fleet b1 b2 b3=up/0
			pick a u123 at b3 = b3 placement`,
		"one that keeps refusing is tried all the same": `
			fleet b1 b2 b3
			fail b3
			fail b3
			fail b3
			fail b3
			pick a u123 at b3 = b3 placement`,
		"a new placement moves the user": `
			fleet b1 b2 b3
			pick a u123 at b1 = b1 placement
			confirm a = true
			pick b u123 at b3 = b3 placement
			void a = true
			release a
			pins u123 = b3`,
	} {
		t.Run(name, func(t *testing.T) { runScript(t, Options{Storage: Separate}, text) })
	}
}

func TestTimesOfZeroLength(t *testing.T) {
	runScript(t, Options{Storage: Shared, PinGrace: -1, FailoverAfter: -1}, `
		fleet b1 b2 b3
		pick a u123 = b1 rendezvous
		confirm a = true
		fleet b1=down b2 b3
		pick b u123 = b2 failover
		void a = true
		confirm b = true
		release b
		pins u123 = none`)
}

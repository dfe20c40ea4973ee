package agree

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// seeds is how many worlds a test runs: SEEDS, or the number given; a tenth of it under the race detector.
func seeds(t *testing.T, n int) int {
	if text := os.Getenv("SEEDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("SEEDS=%q isn't a number", text)
		}
		return n
	}
	if raceDetector {
		return n / 10
	}
	return n
}

// worlds runs so many worlds, on all processors, and returns the lowest seed with a violation.
func worlds(from uint64, n int, run func(seed uint64) error) (first uint64, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // worlds are small, and much in them is soon garbage
	var (
		next atomic.Uint64
		mu   sync.Mutex
		wait sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for {
				seed := from + next.Add(1) - 1
				mu.Lock()
				stop := seed >= from+uint64(n) || err != nil && seed > first
				mu.Unlock()
				if stop {
					return
				}
				if e := run(seed); e != nil {
					mu.Lock()
					if err == nil || seed < first {
						first, err = seed, e
					}
					mu.Unlock()
				}
			}
		})
	}
	wait.Wait()
	return first, err
}

// Several proxies, faults and clients: no user is on two backends, and once the faults are over every claim
// is granted.
func TestSimulation(t *testing.T) {
	for name, mode := range map[string]Mode{"hold": Hold, "serve": Serve} {
		t.Run(name, func(t *testing.T) {
			var served, refused, moved, ended, epochs atomic.Int64
			n := seeds(t, 1500)
			seed, err := worlds(1, n, func(seed uint64) error {
				w := newWorld(seed, mode, 0, 0)
				if seed%4 == 0 {
					w.pauses(seed)
				}
				err := w.run()
				served.Add(int64(w.served))
				refused.Add(int64(w.refused))
				moved.Add(int64(w.moved))
				ended.Add(int64(w.ended))
				epochs.Add(int64(w.epochs))
				return err
			})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			t.Logf("%d seeds: %d claims served, %d refused, %d users moved, %d ended, %d fleets", n, served.Load(), refused.Load(), moved.Load(), ended.Load(), epochs.Load())
			if s := served.Load(); s < 20*int64(n) || refused.Load() > s || moved.Load() < int64(n) || ended.Load() < int64(n)/50 || epochs.Load() < int64(n) {
				t.Error("the simulation does too little")
			}
		})
	}
}

// SEED=n prints all that happens in one world.
func TestOneWorld(t *testing.T) {
	text := os.Getenv("SEED")
	if text == "" {
		text = "1"
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	mode := Hold
	if os.Getenv("MODE") == "serve" {
		mode = Serve
	}
	without, _ := strconv.ParseUint(os.Getenv("WITHOUT"), 10, 32)
	w := newWorld(seed, mode, rule(without), 0)
	if seed%4 == 0 && without == 0 {
		w.pauses(seed)
	}
	w.trace = func(format string, args ...any) { t.Logf("%10v "+format, append([]any{w.now}, args...)...) }
	if err := w.run(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
}

// Each rule is needed: without it there is a world in which a user is on two backends, or a backend is
// wrongly down. TestStagesMissTheirRules has the rules that chance rarely needs.
func TestSimulationMissesEachRule(t *testing.T) {
	for _, c := range []struct {
		name    string
		without rule
		driver  driverRule
		mode    Mode
		from    uint64 // the seed to begin with: one that has shown it
	}{
		{"1 stays are published", ruleStays, 0, Hold, 4},
		{"2 claims wait for all", ruleAll, 0, Hold, 4},
		{"3 a follow checks", ruleFollow, 0, Hold, 169},
		{"4 old readings are void", ruleVoid, 0, Hold, 85},
		{"4 ends are seen", 0, driverEnds, Hold, 787},
		{"5 no trust without renewals", ruleTrust, 0, Hold, 3},
		{"5 who comes back yields", ruleYield, 0, Serve, 5},
		{"6 most proxies", ruleMajority, 0, Hold, 7},
		{"C keys without a session count", ruleOrphan, 0, Hold, 123},
		{"D overrides of all fleets", ruleSteady, 0, Hold, 515},
		{"D stays of users", ruleNamed, 0, Hold, 29},
		{"E a dial counts", 0, driverPin, Hold, 27},
		{"I no state is reverted at once", ruleDamp, 0, Hold, 13},
	} {
		t.Run(c.name, func(t *testing.T) {
			seed, err := worlds(c.from, 3000, func(seed uint64) error {
				if err := newWorld(seed, c.mode, c.without, c.driver).run(); unsafe(err) {
					return err
				}
				return nil
			})
			if err == nil {
				t.Fatal("no violation")
			}
			t.Logf("seed %d: %v", seed, err)
		})
	}
}

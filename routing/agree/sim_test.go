package agree

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// seeds is how many worlds a test goes through: SEEDS, or the number given; a tenth of it under the race detector.
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

// worlds runs so many, on all processors, and gives the lowest seed with a violation.
func worlds(n int, run func(seed uint64) error) (first uint64, err error) {
	var (
		next atomic.Uint64
		mu   sync.Mutex
		wait sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for {
				seed := next.Add(1)
				mu.Lock()
				stop := seed > uint64(n) || err != nil && seed > first
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

// Several proxies, faults and clients: no user is on two backends, and once the faults are over every claim is served.
func TestSimulation(t *testing.T) {
	for name, mode := range map[string]Mode{"hold": Hold, "serve": Serve} {
		t.Run(name, func(t *testing.T) {
			var served, refused, moved, epochs atomic.Int64
			n := seeds(t, 500)
			seed, err := worlds(n, func(seed uint64) error {
				w := newWorld(seed, mode, 0, 0)
				err := w.run()
				served.Add(int64(w.served))
				refused.Add(int64(w.refused))
				moved.Add(int64(w.moved))
				epochs.Add(int64(w.epochs))
				return err
			})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			t.Logf("%d seeds: %d claims served, %d refused, %d users moved, %d fleets", n, served.Load(), refused.Load(), moved.Load(), epochs.Load())
			if s := served.Load(); s < 20*int64(n) || refused.Load() > s || moved.Load() < int64(n) || epochs.Load() < int64(n) {
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
	w.trace = func(format string, args ...any) { t.Logf("%10v "+format, append([]any{w.now}, args...)...) }
	if err := w.run(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
}

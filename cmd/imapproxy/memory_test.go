package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

func TestMemoryIsGivenBackWhenABurstIsOver(t *testing.T) {
	const mb = 1 << 20
	began := time.Unix(1000, 0)
	burst := heap{used: 150 * mb, live: 100 * mb, free: 10 * mb, allocated: 900 * mb}
	for _, c := range []struct {
		name    string
		before  uint64 // allocated at the look before
		heap    heap
		after   time.Duration // of the last time
		took    time.Duration // that it took
		givesUp bool
	}{
		{"quiet, and much lies unused", 899 * mb, burst, time.Hour, 0, true},
		{"the burst goes on", 880 * mb, burst, time.Hour, 0, false},
		{"idle clients are kept alive", 890 * mb, burst, time.Hour, 0, true},
		{"little lies unused", 899 * mb, heap{used: 102 * mb, live: 100 * mb, free: 3 * mb, allocated: 900 * mb}, time.Hour, 0, false},
		{"just done", 899 * mb, burst, 20 * time.Second, 0, false},
		{"done a while ago", 899 * mb, burst, 70 * time.Second, 100 * time.Millisecond, true},
		{"done a while ago, but it takes long", 899 * mb, burst, 70 * time.Second, time.Second, false},
		{"more live than used, as swept meanwhile", 899 * mb, heap{used: 90 * mb, live: 100 * mb, free: 30 * mb, allocated: 900 * mb}, time.Hour, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := tidiness{allocated: c.before}
			d.done(began, c.took)
			if got := d.due(began.Add(c.after), c.heap); got != c.givesUp {
				t.Errorf("due: %v", got)
			}
			if d.due(began.Add(c.after+tidyEvery), heap{allocated: d.allocated}) {
				t.Error("due again, with nothing unused")
			}
		})
	}
}

func TestTheRuntimeKnowsTheFiguresThatTidinessGoesBy(t *testing.T) {
	if h := readHeap(); h.used == 0 || h.allocated == 0 { // an unknown name panics
		t.Errorf("%+v", h)
	}
}

func TestSmallHeapsAreCollectedAsSeldomAsLargerOnes(t *testing.T) {
	for _, c := range []struct {
		inUse uint64
		want  int
	}{{0, 600}, {gcStart, 600}, {12 << 20, 200}, {96 << 20, gcPercent}, {1 << 40, gcPercent}} {
		if got := percentFor(c.inUse); got != c.want {
			t.Errorf("with %d bytes in use: %d, want %d", c.inUse, got, c.want)
		}
	}
}

func TestThePercentageFollowsWhatIsInUse(t *testing.T) {
	before := debug.SetGCPercent(percentFor(0))
	t.Cleanup(func() { debug.SetGCPercent(before) })
	tidying := task.Start(tidy)
	defer func() { _ = tidying.Stop() }()
	percent := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	live := make([]byte, 2*100*gcLeast/gcPercent) // never written
	imaptest.Eventually(t, "a large heap is collected early", func() bool {
		runtime.GC()
		return percent() == gcPercent
	})
	runtime.KeepAlive(live) // from here on it is garbage
	imaptest.Eventually(t, "a small heap is collected late", func() bool {
		runtime.GC()
		return percent() > 4*gcPercent
	})
}

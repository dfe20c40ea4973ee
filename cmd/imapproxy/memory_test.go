package main

import (
	"math"
	"testing"
	"time"
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
		{"little lies unused", 899 * mb, heap{used: 102 * mb, live: 100 * mb, free: 3 * mb, allocated: 900 * mb}, time.Hour, 0, false},
		{"just done", 899 * mb, burst, 30 * time.Second, 0, false},
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

func TestAMemoryLimitIsNotSpentOnTheFloor(t *testing.T) {
	for limit, want := range map[int64]int64{math.MaxInt64: gcFloor, 128 << 20: 16 << 20, 8 << 30: gcFloor, 0: 0} {
		if got := floorUnder(limit); got != want {
			t.Errorf("%d bytes are set aside under a limit of %d", got, limit)
		}
	}
}

package model

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// workers is how many cases run at a time, each for a user of its own.
const workers = 6

// wanted are the variants to run, with the time for each: the one named on, or those whose names begin so, which share
// minutes. Those without a proxy have to be asked for by their whole names.
func wanted(t *testing.T, on, minutes string) []variant {
	all := variants()
	if i := slices.IndexFunc(all, func(v variant) bool { return v.name == on }); i >= 0 {
		all = all[i : i+1]
	} else {
		all = slices.DeleteFunc(all, func(v variant) bool {
			return !strings.HasPrefix(v.name, on) || v.short == 0 && on == "" && minutes == "" || v.watch == "" && (on != "" || minutes != "")
		})
	}
	if minutes != "" {
		f, err := strconv.ParseFloat(minutes, 64)
		must(t, err)
		for i := range all {
			all[i].short = time.Duration(f * float64(time.Minute) / float64(len(all)))
		}
	}
	return all
}

func TestWantedVariants(t *testing.T) {
	for _, c := range []struct {
		on, minutes string
		want        []string
	}{
		{"memory-idle", "10", []string{"memory-idle 10m0s"}}, // not memory-idle-lost as well
		{"cyrus-direct", "10", []string{"cyrus-direct 10m0s"}},
		{"cyrus-direct", "", []string{"cyrus-direct 0s"}},
		{"cyrus", "10", []string{"cyrus-idle-tls 2m30s", "cyrus-idle-lost 2m30s", "cyrus-idle-compressed 2m30s", "cyrus-push 2m30s"}},
		{"courier", "", []string{"courier-comparison 0s"}},
		{"nothing", "10", nil},
	} {
		var got []string
		for _, v := range wanted(t, c.on, c.minutes) {
			got = append(got, v.name+" "+v.short.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("MODEL_ON=%s MODEL_MINUTES=%s: %q, want %q", c.on, c.minutes, got, c.want)
		}
	}
	for _, v := range wanted(t, "", "") {
		if v.short == 0 {
			t.Errorf("a run of all tests has %s, which has no time", v.name)
		}
	}
}

func TestModel(t *testing.T) {
	for _, v := range wanted(t, os.Getenv("MODEL_ON"), os.Getenv("MODEL_MINUTES")) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, v.labOptions)
			if s := os.Getenv("MODEL_SEED"); s != "" {
				seed, err := strconv.ParseUint(s, 10, 64)
				must(t, err)
				l.one(t, seed, l.user())
				return
			}
			l.many(t, v.short)
		})
	}
}

// many runs cases until the time is over, or one fails.
func (l *lab) many(t *testing.T, d time.Duration) {
	end := time.Now().Add(d)
	first := uint64(1) // the same cases each time, so that a failure says something of the change that was made
	if os.Getenv("MODEL_MINUTES") != "" {
		first = uint64(time.Now().UnixNano())
	}
	var g sync.WaitGroup
	var mu sync.Mutex
	total, cases, failed := newStats(), 0, false
	for i := range workers {
		g.Go(func() {
			user := l.user()
			st := newStats()
			for n := uint64(0); time.Now().Before(end); n++ {
				seed := first + n*workers + uint64(i)
				s := newScenario(seed, l.plain)
				s.until = end
				tr, err := l.run(s, user, st, nil)
				mu.Lock()
				cases++
				stop := failed
				if err != nil && !failed {
					failed, stop = true, true
					l.report(t, s, user, tr, err)
				}
				mu.Unlock()
				if stop || err != nil {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total.add(st)
		})
	}
	g.Wait()
	t.Logf("%d cases from MODEL_SEED=%d: %d operations, parked %d times of %d, settled %d times, %d cuts, %d reborn, %d unheard; %v",
		cases, first, total.ops, total.parked, total.asked, total.settled, total.cuts, total.reborn, total.unheard, total.kinds)
	if most := 1 + total.ops/50_000; total.unheard > most { // Cyrus does it in one of some 300,000
		t.Errorf("%d clients weren't told of messages, at most %d are Cyrus' own doing", total.unheard, most)
	}
	if l.app != nil {
		t.Logf("%+v", l.app.Hub().Stats())
	}
	if l.moving != nil {
		t.Logf("moved %d times of %d", l.moving.moves.Load(), l.moving.asked.Load())
	}
	if l.breaker != nil {
		t.Logf("%d connections cut; %d operations ended by that, last words %v; sessions ended: %v", l.breaker.count(), total.losses, total.byes, l.log.reasons())
	}
	if l.network != nil {
		t.Logf("%d events lost", l.network.lost.Load())
	}
}

func (l *lab) one(t *testing.T, seed uint64, user string) {
	s := newScenario(seed, l.plain)
	for range 10 {
		if tr, err := l.run(s, user, newStats(), nil); err != nil {
			l.report(t, s, user, tr, err)
			return
		}
	}
}

// report shrinks a case that has failed, and fails the test.
func (l *lab) report(t *testing.T, s scenario, user string, tr *transcript, err error) {
	t.Errorf("MODEL_SEED=%d: %v", s.seed, err)
	s.until = time.Time{}
	logs := l.log.last(25, user)
	shrunk, str, serr := l.shrink(s, l.user(), 40*time.Second)
	if serr == nil {
		t.Logf("it didn't fail again. The transcript's end:\n%s\nlog:\n%s", lastLines(tr.String(), 300), logs)
		return
	}
	t.Logf("shrunk to %d operations %v, dialects %v: %v\n%s\nlog:\n%s", len(shrunk.ops), shrunk.ops, shrunk.dialects, serr, lastLines(str.String(), 500), logs)
}

func lastLines(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// shrink leaves operations out as long as the case fails, which may need some tries:
// what happens at the same time doesn't happen the same way twice.
func (l *lab) shrink(s scenario, user string, d time.Duration) (scenario, *transcript, error) {
	end := time.Now().Add(d)
	var tr *transcript
	var why error
	fails := func(c scenario, tries int) bool {
		for range tries {
			if time.Now().After(end) {
				return false
			}
			t, err := l.run(c, user, newStats(), nil)
			if err != nil {
				tr, why = t, fmt.Errorf("%w", err)
				return true
			}
		}
		return false
	}
	if !fails(s, 6) {
		return s, nil, nil
	}
	for size := len(s.ops) / 2; size > 0; size /= 2 {
		for at := 0; at < len(s.ops); {
			c := s
			c.ops = slices.Concat(s.ops[:at], s.ops[min(len(s.ops), at+size):])
			if fails(c, 2) {
				s = c
			} else {
				at += size
			}
		}
	}
	for i := len(s.dialects) - 1; i >= 0 && len(s.dialects) > 1; i-- {
		c := s
		c.dialects = slices.Delete(slices.Clone(s.dialects), i, i+1)
		if fails(c, 2) {
			s = c
		}
	}
	return s, tr, why
}

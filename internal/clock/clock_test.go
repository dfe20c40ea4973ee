package clock_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/clock"
)

func TestInstantsAreCountedOnTheMonotonicClock(t *testing.T) {
	now := time.Now()
	again := clock.At(clock.Of(now))
	if !strings.Contains(again.String(), "m=") {
		t.Errorf("%s has no monotonic reading", again)
	}
	if again.Sub(now) != 0 {
		t.Errorf("%s has become %s", now, again)
	}
	// An instant of another wall clock that has the same monotonic reading can't be made here; that the readings are what is compared shows by
	// the difference of two instants whose wall clocks differ from their readings: time.Time keeps both.
	later := now.Add(time.Hour)
	if got := clock.Of(later) - clock.Of(now); got != int64(time.Hour) {
		t.Errorf("an hour is %d", got)
	}
}

func TestNoInstantIsNever(t *testing.T) {
	for _, at := range []time.Time{time.Unix(0, 0), time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), time.Now()} {
		n := clock.Of(at)
		if n <= 0 {
			t.Errorf("%s has the number %d", at, n)
		}
		if got := clock.At(n); !got.Equal(at) {
			t.Errorf("%s has become %s", at, got)
		}
	}
	if quiet := time.Since(clock.At(0)); quiet < 24*time.Hour {
		t.Errorf("never is %s ago", quiet)
	}
}

func TestInstantsFarInTheFuture(t *testing.T) {
	for _, at := range []time.Time{time.Unix(0, math.MaxInt64), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if n := clock.Of(at); n != math.MaxInt64 {
			t.Errorf("%s has the number %d", at, n)
		}
	}
	if !clock.At(math.MaxInt64).After(time.Now().Add(100 * 365 * 24 * time.Hour)) {
		t.Errorf("the highest number is %s", clock.At(math.MaxInt64))
	}
}

package app

import (
	"testing"
	"time"

	"imapproxy/telemetry"
)

// The hour's samples and the day's minutes are bounded, and the bill's means are over the time that they cover.
func TestTheHistoryIsBoundedAndTheBillAddsUp(t *testing.T) {
	var h history
	at := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	logins := int64(0)
	sample := func(loggedIn, connections int64) {
		logins += 3
		h.add(at, counts{sessions: loggedIn + 1, loggedIn: loggedIn, parked: loggedIn - connections, connections: connections}, &telemetry.Tally{Logins: logins, BackendLogins: logins / 3})
		at = at.Add(sampleEvery)
	}
	for range 25 * 360 { // 25 hours
		sample(100, 10)
	}
	for range 180 { // and half an hour
		sample(200, 10)
	}
	b := h.bill(1 << 20)
	if b.Now.Saved != 190 || b.Now.SavedMemory != 190<<20 || b.Now.Logins != 3 || b.Now.BackendLogins != 1 || b.Now.SavedLogins != 2 {
		t.Errorf("now: %+v", b.Now)
	}
	if b.Hour.Seconds != 3600 || b.Hour.Saved != 140 || b.Hour.Logins != 1080 || b.Hour.SavedLogins != 720 {
		t.Errorf("the hour: %+v", b.Hour)
	}
	if b.Day.Seconds != 86400 || b.Day.Saved < 92 || b.Day.Saved > 92.2 || b.Day.Logins != 3*8640 {
		t.Errorf("the day: %+v", b.Day)
	}
	all := h.after(time.Time{})
	if len(all) != maxSamples || all[0].LoggedIn != 100 || all[maxSamples-1].LoggedIn != 200 || !all[0].Time.Before(all[1].Time) {
		t.Errorf("%d samples", len(all))
	}
	if left := h.after(all[maxSamples-3].Time); len(left) != 2 {
		t.Errorf("%d samples after the last but two", len(left))
	}

	// The time in which the process was stopped, or by which the clock jumps, isn't counted.
	at = at.Add(24 * time.Hour)
	sample(200, 10)
	if b := h.bill(0); b.Day.Seconds != 20 || b.Day.SavedMemory != 0 {
		t.Errorf("after a day's silence: %+v", b.Day)
	}
}

package app

import (
	"sync"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/telemetry"
)

// Bounds of what is remembered: an hour of samples, and a day of minutes.
const (
	sampleEvery = 10 * time.Second
	maxSamples  = 360
	maxMinutes  = 24 * 60
)

// history has the samples that the admin page draws and the bill adds up.
type history struct {
	mu      sync.Mutex // guards the fields below
	samples []admin.Sample
	oldest  int // of samples, once there are maxSamples
	tally   *telemetry.Tally
	at      time.Time // of tally
	minutes [maxMinutes]minute
}

// minute adds up the samples of a minute. sessions and connections are multiplied by the seconds for which they count.
type minute struct {
	unix                        int64 // which minute it is
	seconds                     float64
	sessions, connections       float64
	clientLogins, backendLogins int64
}

// counts are the proxy at the moment of a sample.
type counts struct {
	sessions, loggedIn, parked, connections, descriptors, memory int64
}

// add adds a sample.
func (h *history) add(now time.Time, c counts, tally *telemetry.Tally) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, since := h.tally, min(now.Sub(h.at), 2*sampleEvery)
	if before == nil {
		before, since = &telemetry.Tally{}, 0
	}
	h.tally, h.at = tally, now
	s := admin.Sample{
		Time: now, Sessions: c.sessions, LoggedIn: c.loggedIn, Parked: c.parked, Connections: c.connections, Descriptors: c.descriptors, Memory: c.memory,
		Logins: tally.Logins - before.Logins, FailedLogins: tally.FailedLogins - before.FailedLogins, BackendLogins: tally.BackendLogins - before.BackendLogins,
		Commands: tally.Commands(before), P50: quantiles(tally, before, 0.5), P99: quantiles(tally, before, 0.99),
	}
	if len(h.samples) < maxSamples {
		h.samples = append(h.samples, s)
	} else {
		h.samples[h.oldest] = s
		h.oldest = (h.oldest + 1) % maxSamples
	}
	m := &h.minutes[now.Unix()/60%maxMinutes]
	if m.unix != now.Unix()/60 {
		*m = minute{unix: now.Unix() / 60}
	}
	m.seconds += since.Seconds()
	m.sessions += float64(c.loggedIn) * since.Seconds()
	m.connections += float64(c.connections) * since.Seconds()
	m.clientLogins += s.Logins
	m.backendLogins += s.BackendLogins
}

func quantiles(t, before *telemetry.Tally, q float64) admin.Times {
	of := func(p telemetry.Part) float64 { return float64(t.Quantile(before, p, q)) / float64(time.Millisecond) }
	return admin.Times{All: of(telemetry.PartAll), Client: of(telemetry.PartClient), Proxy: of(telemetry.PartProxy),
		Backend: of(telemetry.PartBackend), Resume: of(telemetry.PartResume)}
}

// after returns the samples that were taken after a time.
func (h *history) after(when time.Time) []admin.Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := []admin.Sample{}
	for i := range h.samples {
		if s := h.samples[(h.oldest+i)%len(h.samples)]; s.Time.After(when) {
			all = append(all, s)
		}
	}
	return all
}

// bill adds up what parking has saved. memory is that of a backend's process.
func (h *history) bill(memory int64) admin.Bill {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := admin.Bill{BackendProcessMemory: memory, Formula: admin.Formula}
	if len(h.samples) == 0 {
		return b
	}
	last := h.samples[(h.oldest+len(h.samples)-1)%len(h.samples)]
	b.Now = saved(minute{seconds: 1, sessions: float64(last.LoggedIn), connections: float64(last.Connections),
		clientLogins: last.Logins, backendLogins: last.BackendLogins}, memory)
	b.Now.Seconds = int64(sampleEvery / time.Second)
	b.Hour, b.Day = saved(h.sum(60), memory), saved(h.sum(maxMinutes), memory)
	return b
}

// sum adds up the last minutes.
func (h *history) sum(minutes int64) (all minute) {
	for _, m := range h.minutes {
		if m.unix > h.at.Unix()/60-minutes {
			all.seconds += m.seconds
			all.sessions += m.sessions
			all.connections += m.connections
			all.clientLogins += m.clientLogins
			all.backendLogins += m.backendLogins
		}
	}
	return all
}

// saved is the formula of the bill (admin.Formula).
func saved(m minute, memory int64) admin.Saved {
	s := admin.Saved{Seconds: int64(m.seconds), Logins: m.clientLogins, BackendLogins: m.backendLogins, SavedLogins: m.clientLogins - m.backendLogins}
	if m.seconds > 0 {
		s.LoggedIn, s.Connections = m.sessions/m.seconds, m.connections/m.seconds
	}
	s.Saved = s.LoggedIn - s.Connections
	s.SavedMemory = int64(s.Saved * float64(memory))
	return s
}

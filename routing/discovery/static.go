package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"imapproxy/routing"
	"imapproxy/telemetry"
)

const staticSource = "static"

// maxProbes bounds how many probes run at once.
const maxProbes = 32

// StaticOptions describe a configured list of backends.
type StaticOptions struct {
	// Backends as configured; their State and Reason are set by the probes.
	Backends []routing.Backend
	// Probe says how they are watched.
	Probe ProbeOptions
	// Telemetry may be nil.
	Telemetry *telemetry.Telemetry
}

// Static is a source whose backends are configured, and probed by the proxy.
type Static struct {
	backends []routing.Backend
	probe    ProbeOptions
	tel      *telemetry.Telemetry
	slots    chan struct{} // taken by probes under way
}

// NewStatic checks the list.
func NewStatic(o StaticOptions) (*Static, error) {
	if len(o.Backends) == 0 {
		return nil, errors.New("discovery static: no backend is configured")
	}
	s := &Static{probe: o.Probe.withDefaults(), tel: o.Telemetry, slots: make(chan struct{}, maxProbes)}
	if s.tel == nil {
		s.tel = telemetry.Discard()
	}
	seen := make(map[string]bool)
	for _, b := range o.Backends {
		if b.ID == "" || seen[b.ID] {
			return nil, fmt.Errorf("discovery static: backend id %q is empty or given twice", b.ID)
		}
		if _, _, err := net.SplitHostPort(b.Address); err != nil {
			return nil, fmt.Errorf("discovery static: backend %q: address %q isn't host:port", b.ID, b.Address)
		}
		if !slices.Contains([]string{"", "none", "starttls", "implicit"}, b.TLS) {
			return nil, fmt.Errorf("discovery static: backend %q: tls %q is none of none, starttls, implicit", b.ID, b.TLS)
		}
		seen[b.ID] = true
		s.backends = append(s.backends, b)
	}
	return s, nil
}

// Run probes until ctx ends. It applies the first set with the first probe's result. The
// backends that haven't answered by then are Pending in it, so that a backend that hangs
// doesn't delay users of the others. A backend's first probe decides alone, later
// ones by Rise and Fall.
func (s *Static) Run(ctx context.Context, apply func(routing.Snapshot)) error {
	if s.probe.Interval < 0 {
		apply(routing.Snapshot{Source: staticSource, Backends: slices.Clone(s.backends)})
		<-ctx.Done()
		return nil
	}
	results := make(chan probeResult)
	var probers sync.WaitGroup // all end with ctx, and are waited for here
	for i := range s.backends {
		probers.Go(func() { s.watch(ctx, i, results) })
	}
	defer probers.Wait()

	backends := slices.Clone(s.backends)
	for i := range backends {
		backends[i].Pending = true
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-results:
			b := &backends[r.index]
			b.State, b.Reason, b.Pending = r.state, r.reason, false
		}
		apply(routing.Snapshot{Source: staticSource, Backends: slices.Clone(backends)})
	}
}

// probeResult is a backend's new state.
type probeResult struct {
	index  int
	state  routing.State
	reason string
}

// watch probes one backend until ctx ends, and sends its state when it changes.
func (s *Static) watch(ctx context.Context, index int, results chan<- probeResult) {
	var count counter
	for {
		capabilities, err := s.probeOnce(ctx, s.backends[index])
		if ctx.Err() != nil {
			return
		}
		if err == nil && s.probe.Answered != nil {
			s.probe.Answered(s.backends[index].ID, capabilities)
		}
		if err != nil && s.probe.Excuse != nil && s.probe.Excuse(s.backends[index].ID, err) {
			if !sleep(ctx, jitter(min(s.probe.Interval, time.Second))) {
				return
			}
			continue
		}
		if count.add(err, s.probe.Rise, s.probe.Fall) {
			r := probeResult{index: index, state: routing.Up}
			if count.down {
				r.state, r.reason = routing.Down, "probe: "+clip(err.Error(), 160)
			}
			select {
			case results <- r:
			case <-ctx.Done():
				return
			}
		}
		pause := s.probe.Interval
		if count.undecided > 0 {
			pause = min(pause, time.Second) // a state is about to change: know soon
		}
		if !sleep(ctx, jitter(pause)) {
			return
		}
	}
}

// probeOnce waits for a slot and probes.
func (s *Static) probeOnce(ctx context.Context, b routing.Backend) (capabilities string, err error) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-s.slots }()
	return s.probe.probe(ctx, b)
}

// counter applies Rise and Fall to a backend's results.
type counter struct {
	begun     bool
	down      bool
	undecided int // results in a row that speak against the present state
}

// add takes one probe's result and reports whether the state is new.
func (c *counter) add(err error, rise, fall int) bool {
	if !c.begun {
		c.begun, c.down = true, err != nil
		return true
	}
	if (err != nil) == c.down {
		c.undecided = 0
		return false
	}
	c.undecided++
	need := fall
	if c.down {
		need = rise
	}
	if c.undecided < need {
		return false
	}
	c.down, c.undecided = !c.down, 0
	return true
}

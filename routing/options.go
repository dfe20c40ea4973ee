package routing

import (
	"errors"
	"fmt"
	"time"

	"imapproxy/telemetry"
)

// Defaults of Options.
const (
	DefaultPinGrace       = 15 * time.Minute
	DefaultFailoverAfter  = 30 * time.Second
	DefaultPanicThreshold = 0.5
	DefaultPanicWindow    = time.Minute
	DefaultDialRetry      = 5 * time.Second
	DefaultFlapDamp       = 30 * time.Second
)

const (
	// suspectAfter is how many dials in a row must fail before new users are
	// sent elsewhere without trying: fewer would let one reset connection move people.
	suspectAfter = 3
	// failureRun ends a run of dial failures: an old one says nothing about now.
	failureRun = 10 * time.Minute
	// sweepStep is how many ended pins one write takes away; more than one, so
	// that the table shrinks while it is in use.
	sweepStep = 16
	// maxErrorText bounds what is kept of a dial error, in bytes.
	maxErrorText = 200
)

// Options configure routing. All fields but Storage may be zero.
type Options struct {
	// Storage says whether backends share the mail; no default.
	Storage Storage
	// PinGrace is how long a pin outlives the user's last session. 0 = 15 min, negative = none.
	PinGrace time.Duration
	// FailoverAfter is how long a user's sessions with a connection to the backend hold
	// the user there when it is down or refuses; shared storage only. 0 = 30 s, negative
	// = not at all.
	FailoverAfter time.Duration
	// PanicThreshold is the fraction (0..1] of the fleet that discovery may
	// take away within PanicWindow; what goes beyond is kept as it was. 0 = 0.5, 1 = no limit.
	PanicThreshold float64
	// PanicWindow is what "at once" means to PanicThreshold. 0 = 1 min.
	PanicWindow time.Duration
	// FlapDamp is how long discovery must call a backend usable without a break before it is
	// used again, where it comes and goes (damp); shared storage only. 0 = 30 s, negative: at once.
	FlapDamp time.Duration
	// DialRetry is how often a probe is due at a backend that can't be reached (Trials).
	// 0 = 5 s.
	DialRetry time.Duration

	// Agreement decides in place of the router's rules, where several proxies agree on users. nil = this proxy decides alone.
	// Reload doesn't change it.
	Agreement Agreement

	Now       func() time.Time     // nil = time.Now
	Telemetry *telemetry.Telemetry // nil = nothing is recorded; not changed by Reload
}

// withDefaults fills in what was left zero, or says what is wrong.
func (o Options) withDefaults() (*Options, error) {
	if o.Storage != Shared && o.Storage != Separate {
		return nil, errors.New("routing: storage must be shared or separate, there is no default")
	}
	if !(o.PanicThreshold >= 0 && o.PanicThreshold <= 1) { // written so that NaN fails
		return nil, fmt.Errorf("routing: panic threshold %v is not between 0 and 1", o.PanicThreshold)
	}
	if o.PanicThreshold == 0 {
		o.PanicThreshold = DefaultPanicThreshold
	}
	o.PinGrace = orDefault(o.PinGrace, DefaultPinGrace)
	o.FailoverAfter = orDefault(o.FailoverAfter, DefaultFailoverAfter)
	o.PanicWindow = orDefault(o.PanicWindow, DefaultPanicWindow)
	o.FlapDamp = orDefault(o.FlapDamp, DefaultFlapDamp)
	o.DialRetry = orDefault(o.DialRetry, DefaultDialRetry)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Telemetry == nil {
		o.Telemetry = telemetry.Discard()
	}
	return &o, nil
}

// orDefault is d, the default where it is 0, and 0 where it is negative.
func orDefault(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}

package routing

import (
	"context"
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
	// suspectAfter is how many dials in a row must fail before new users are sent elsewhere without trying:
	// with a lower number one reset connection could move users.
	suspectAfter = 3
	// failureRun ends a run of dial failures: an old failure doesn't describe the present.
	failureRun = 10 * time.Minute
	// sweepStep is how many ended pins one write removes; more than one, so that the table shrinks while it
	// is in use.
	sweepStep = 16
	// maxErrorText bounds the stored text of a dial error, in bytes.
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
	// PanicThreshold is the fraction (0..1] of the fleet that discovery may take away within PanicWindow; an
	// answer that exceeds it takes none away. 0 = 0.5, 1 = no limit.
	PanicThreshold float64
	// PanicWindow is the period for PanicThreshold. 0 = 1 min.
	PanicWindow time.Duration
	// FlapDamp is how long discovery must call a backend usable without a break before it is
	// used again, where it comes and goes (damp); shared storage only. 0 = 30 s, negative: at once.
	FlapDamp time.Duration
	// DialRetry is how often a probe is due at a backend that can't be reached (Trials).
	// 0 = 5 s.
	DialRetry time.Duration

	// Agreement decides instead of the router's rules if several proxies agree on users. nil = this proxy
	// decides alone. Reload doesn't change it.
	Agreement Agreement

	// Beside knows of other processes of this proxy; nil = there are none. Reload doesn't change it.
	Beside Beside

	Now       func() time.Time     // nil = time.Now
	Telemetry *telemetry.Telemetry // nil = nothing is recorded; not changed by Reload
}

// withDefaults fills in zero fields, or returns an error.
func (o Options) withDefaults() (*Options, error) {
	if o.Storage != Shared && o.Storage != Separate {
		return nil, errors.New("routing: storage must be shared or separate, there is no default")
	}
	if !(o.PanicThreshold >= 0 && o.PanicThreshold <= 1) { // this form refuses NaN, too
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

// orDefault returns d, def for 0, and 0 for a negative d.
func orDefault(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}

// Agreement decides where users are if several proxies decide together (docs/cluster.md); the router's own
// rules (choose) are for a single proxy. With an Agreement, discovery's answers go to it, and its fleet comes
// to the router by Apply.
type Agreement interface {
	// Claim returns the backend to which a connection of the user may be made; it waits while the proxies
	// haven't agreed. home is the ID of the backend that the user's placement names, "" for none. release
	// ends the claim.
	Claim(ctx context.Context, user, home string) (backend string, release func(), err error)
}

// Beside is what other processes of the same proxy have: during an upgrade the old process still serves its sessions. It is for
// a proxy that decides alone. The router takes another process's connections for its own: the rules of choose are the same.
type Beside interface {
	// Where returns the ID of the backend at which another process has connections of the user; "": none has.
	Where(user string) string
	// Free has the other processes let go of the user at other backends than this one, and waits until they have.
	// down says of a backend whether its connections can be closed at once.
	Free(ctx context.Context, user, backend string, down func(backend string) bool) error
}

// beside is Where.
func (o *Options) beside(user string) string {
	if o.Beside == nil || o.Agreement != nil {
		return ""
	}
	return o.Beside.Where(user)
}

package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// The names of the steps of a park, a resume and a resync, which are their
// traces' spans.
const (
	StepSubscribe  = "subscribe"  // until hints flow for the mailbox
	StepFlags      = "flags"      // all flags, where the strategy is comparison
	StepDone       = "done"       // the backend's IDLE is ended
	StepSnapshot   = "snapshot"   // what the client counts
	StepDeselect   = "deselect"   // the mailbox is left
	StepRelease    = "release"    // the connection is the pool's, or closed
	StepBack       = "back"       // the park has failed: the backend is made to idle again
	StepTurn       = "turn"       // until the backend may be asked
	StepPool       = "pool"       // a connection from the pool
	StepLogin      = "login"      // a connection by a login
	StepEnable     = "enable"     // ENABLE as the client had it
	StepSelect     = "select"     // SELECT or EXAMINE
	StepDifference = "difference" // what has happened since the view
	StepTell       = "tell"       // the client, or all members, are told
	StepIdle       = "idle"       // the backend idles for a client in IDLE
	StepAttempt    = "attempt"    // one that came to nothing
	StepPause      = "pause"      // before the next attempt
	StepConnect    = "connect"    // a connection of the watch's kind, and its turn
	StepResync     = "resync"     // EXAMINE and what follows it
)

// What wakes a parked session besides its client's commands.
const (
	WakeDone      = "DONE"       // the end of IDLE, while the mailbox couldn't be looked at
	WakeLostWatch = "lost_watch" // there are no hints any more
	WakeOff       = "off"        // parking was switched off
	WakeDoubt     = "doubt"      // its credential was refused to another client
)

// Sources of a resumed session's connection.
const (
	SourceNone  = "none" // it got none
	SourcePool  = "pool"
	SourceLogin = "login"
)

// Park describes one attempt to park a session, recorded when the attempt is over.
type Park struct {
	Session       string
	Login         trace.SpanContext // as in Command
	User, Backend string            // in spans only, as is Mailbox
	Mailbox       string            // "" nothing is selected
	Way           string            // "idle", "selected" or "unselected"
	Strategy      string            // how the mailbox is resynced: "qresync", "comparison"; "none" where none is selected
	Watch         string            // where hints come from; "none" likewise
	Tries         int               // how often the view was asked for
	Outcome       string            // "parked", or a constant that says why the session kept its connection
	Err           error             // what it failed with; nil: parked, or the client's doing
	Start, End    time.Time
	Steps         *Steps // telemetry's own from then on
}

// Park counts an attempt to park a session. If its trace is kept, Park makes
// its spans: a trace of its own that links to the login's. Sampled traces are kept, and
// always those of attempts that failed or were slow.
func (t *Telemetry) Park(p Park) {
	if t.metrics != nil {
		t.metrics.parks.Add(context.Background(), 1, with(label("outcome", p.Outcome), label("strategy", p.Strategy)))
	}
	if t.keepsWork(p.Err != nil, p.End.Sub(p.Start)) {
		t.workSpans(&work{name: "park", start: p.Start, end: p.End, session: p.Session, login: p.Login, user: p.User, backend: p.Backend,
			mailbox: p.Mailbox, outcome: p.Outcome, err: p.Err, steps: p.Steps},
			attribute.String("imapproxy.park.way", valid(p.Way)),
			attribute.String("imapproxy.park.strategy", valid(p.Strategy)),
			attribute.String("imapproxy.park.watch", valid(p.Watch)),
			attribute.Int("imapproxy.park.tries", p.Tries))
	}
	t.giveBack(p.Steps)
}

// ParkRefused counts a session that has been quiet for long enough and can't be
// parked. Call it once for each time that the session becomes quiet, however often the
// session is looked at.
func (t *Telemetry) ParkRefused(reason string) {
	if t.metrics == nil {
		return
	}
	t.metrics.parkRefusals.Add(context.Background(), 1, with(label("reason", reason)))
}

// Resume describes the resume of a parked session, recorded when the session has a
// backend connection or has ended without one.
type Resume struct {
	Session       string
	Login         trace.SpanContext // as in Command
	User, Backend string            // in spans only, as is Mailbox
	Mailbox       string            // "" nothing is selected
	Wake          string            // a verb's name (wire.Verb), or one of the Wake constants
	Source        string            // one of the Source constants
	Attempts      int
	Owed          int    // message numbers that the client isn't told of yet: its command forbids it
	Outcome       string // "ok", or a constant that says what ended the session instead
	Err           error
	Start, End    time.Time // from what it was needed for until that could go on
	Steps         *Steps    // telemetry's own from then on
}

// Resume records a resume, under the same terms as Park.
func (t *Telemetry) Resume(r Resume) {
	wake := r.Wake
	switch wake {
	case WakeDone, WakeLostWatch, WakeOff, WakeDoubt:
	default:
		wake = knownVerb(wake)
	}
	if t.metrics != nil {
		t.metrics.resume.Record(context.Background(), seconds(r.End.Sub(r.Start)),
			with(label("outcome", r.Outcome), label("source", r.Source), label("wake", wake)))
	}
	if t.keepsWork(r.Err != nil || r.Attempts > 1, r.End.Sub(r.Start)) {
		t.workSpans(&work{name: "resume", start: r.Start, end: r.End, session: r.Session, login: r.Login, user: r.User, backend: r.Backend,
			mailbox: r.Mailbox, outcome: r.Outcome, err: r.Err, steps: r.Steps},
			attribute.String("imapproxy.resume.wake", valid(wake)),
			attribute.String("imapproxy.resume.source", valid(r.Source)),
			attribute.Int("imapproxy.resume.attempts", r.Attempts),
			attribute.Int("imapproxy.resume.owed", r.Owed))
	}
	t.giveBack(r.Steps)
}

// Resync describes one look at a mailbox for the sessions that are parked on it, or for a
// session that parks or resumes.
type Resync struct {
	User, Backend, Mailbox string // in spans only
	Strategy               string // "qresync" or "comparison"
	Watch                  string // where the mailbox' hints come from
	Reason                 string // the source of the first hint that led to it, or "renewed", "join", "look", "park", "resume"
	Views                  int    // of how many clients it was made for
	Err                    error
	Start, End             time.Time
	Steps                  *Steps // telemetry's own from then on
}

// Resync records a resync, under the same terms as Park. It links to no login,
// since it may be made for many sessions.
func (t *Telemetry) Resync(r Resync) {
	outcome := "ok"
	if r.Err != nil {
		outcome = "failed"
	}
	took := r.End.Sub(r.Start)
	if m := t.metrics; m != nil {
		m.resyncs.Add(context.Background(), 1, with(label("outcome", outcome), label("strategy", r.Strategy), label("reason", r.Reason)))
		m.resyncDuration.Record(context.Background(), seconds(took), with(label("outcome", outcome), label("strategy", r.Strategy)))
	}
	if t.keepsWork(r.Err != nil, took) {
		t.workSpans(&work{name: "resync", start: r.Start, end: r.End, user: r.User, backend: r.Backend,
			mailbox: r.Mailbox, outcome: outcome, err: r.Err, steps: r.Steps},
			attribute.String("imapproxy.park.strategy", valid(r.Strategy)),
			attribute.String("imapproxy.park.watch", valid(r.Watch)),
			attribute.String("imapproxy.resync.reason", valid(r.Reason)),
			attribute.Int("imapproxy.resync.views", r.Views))
	}
	t.giveBack(r.Steps)
}

// PoolGiven counts a connection that was put into the pool. use is its purpose:
// "session" or "watch".
func (t *Telemetry) PoolGiven(use string) {
	if t.metrics != nil {
		t.metrics.poolGiven.Add(context.Background(), 1, with(label("use", use)))
	}
}

// PoolAsked counts a request for a connection of the pool. outcome is "lent" or
// "none".
func (t *Telemetry) PoolAsked(use, outcome string) {
	if t.metrics != nil {
		t.metrics.poolAsked.Add(context.Background(), 1, with(label("use", use), label("outcome", outcome)))
	}
}

// PoolClosed counts a connection that the pool closed or didn't accept. reason is a
// constant.
func (t *Telemetry) PoolClosed(reason string) {
	if t.metrics != nil {
		t.metrics.poolClosed.Add(context.Background(), 1, with(label("reason", reason)))
	}
}

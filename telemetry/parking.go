package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Causes of the wake of a parked session other than its client's commands.
const (
	WakeDone      = "DONE"       // the end of IDLE while the mailbox couldn't be resynced
	WakeLostWatch = "lost_watch" // there are no more hints
	WakeOff       = "off"        // parking was switched off
	WakeExpires   = "expires"    // the token that it logs in with at its backend expires soon
	WakeDoubt     = "doubt"      // its credential was refused to another client of the user
	WakeLost      = "lost"       // its backend connection was lost while it was attached
)

// Sources of a resumed session's connection.
const (
	SourceNone  = "none" // there was no connection
	SourcePool  = "pool"
	SourceLogin = "login"
)

// Park describes one attempt to park a session, recorded when the attempt is over.
type Park struct {
	Session       string
	Login         trace.SpanContext // see Command
	User, Backend string            // in spans only, as is Mailbox
	Address       string            // the backend's host:port; "": unknown
	Mailbox       string            // "": no mailbox is selected
	Way           string            // "idle", "selected" or "unselected"
	Strategy      string            // how the mailbox is resynced: "qresync", "comparison"; "none": no mailbox is selected
	Watch         string            // the source of hints; "none": no mailbox is selected
	Tries         int               // how often the messages of the view were requested
	Outcome       string            // "parked", or a constant that says why the session kept its connection
	Err           error             // the error of a failed attempt; nil: parked, or ended by the client
	Start, End    time.Time
	Steps         *Steps // they belong to telemetry from then on
}

// Park counts an attempt to park a session. If its trace is kept, Park makes its spans: a trace of its own
// that links to the login's. Sampled traces are kept, and all traces of attempts that failed or were slow.
func (t *Telemetry) Park(p Park) {
	if t.metrics != nil {
		t.metrics.parks.Add(context.Background(), 1, with(label("outcome", p.Outcome), label("strategy", p.Strategy)))
	}
	if t.keepsWork(p.Err != nil, p.End.Sub(p.Start)) {
		t.workSpans(context.Background(), &work{name: spanPark, start: p.Start, end: p.End, session: p.Session, login: p.Login, user: p.User, backend: p.Backend, address: p.Address,
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
	Login         trace.SpanContext // see Command
	User, Backend string            // in spans only, as is Mailbox
	Address       string            // the backend's host:port; "": unknown
	Mailbox       string            // "": no mailbox is selected
	Wake          string            // a verb's name (wire.Verb), or one of the Wake constants
	Source        string            // one of the Source constants
	Attempts      int
	Owed          int    // expunges that the client wasn't told of, because its command forbids it
	Outcome       string // "ok", or a constant that says what ended the session instead
	Err           error
	Start, End    time.Time // from the moment when a connection was needed until it was available
	Steps         *Steps    // they belong to telemetry from then on
}

// Resume records a resume, under the same terms as Park.
func (t *Telemetry) Resume(r Resume) {
	t.countResume(&r)
	t.ResumeAlone(&r)
}

// Resumed records a resume for which a command waits. It returns the resume for Command.Resume, nil if traces are
// off. If no command takes it, ResumeAlone must be called.
func (t *Telemetry) Resumed(r Resume) *Resume {
	t.countResume(&r)
	if t.tracer == nil {
		return nil
	}
	return &r
}

// ResumeAlone makes the spans of a counted resume as a trace of its own, if that is kept.
func (t *Telemetry) ResumeAlone(r *Resume) {
	if t.keepsWork(r.Err != nil || r.Attempts > 1, r.End.Sub(r.Start)) {
		t.resumeSpans(context.Background(), r)
	}
	t.giveBack(r.Steps)
}

// countResume counts a resume.
func (t *Telemetry) countResume(r *Resume) {
	switch r.Wake {
	case WakeDone, WakeLostWatch, WakeOff, WakeExpires, WakeDoubt, WakeLost:
	default:
		r.Wake = knownVerb(r.Wake)
	}
	if t.metrics != nil {
		t.metrics.resume.Record(context.Background(), seconds(r.End.Sub(r.Start)),
			with(label("outcome", r.Outcome), label("source", r.Source), label("wake", r.Wake)))
	}
}

// resumeSpans makes the spans of a resume: a part of the trace in ctx, or a trace of its own.
func (t *Telemetry) resumeSpans(ctx context.Context, r *Resume) {
	t.workSpans(ctx, &work{name: spanResume, start: r.Start, end: r.End, session: r.Session, login: r.Login, user: r.User, backend: r.Backend, address: r.Address,
		mailbox: r.Mailbox, outcome: r.Outcome, err: r.Err, steps: r.Steps},
		attribute.String("imapproxy.resume.wake", valid(r.Wake)),
		attribute.String("imapproxy.resume.source", valid(r.Source)),
		attribute.Int("imapproxy.resume.attempts", r.Attempts),
		attribute.Int("imapproxy.resume.owed", r.Owed))
}

// Recovery describes how what a client counts was found after its backend connection was lost, recorded when it is over.
type Recovery struct {
	Session       string
	Login         trace.SpanContext // as in Command
	User, Backend string            // in spans only
	Attempts      int
	Outcome       string // "ok", or a constant that says what ended the session instead
	ViewLost      string // a constant that says why the view wasn't found, if the session was ended for that
	Address       string // the backend's host:port; "": unknown
	Err           error
	Start, End    time.Time
	Steps         *Steps // they belong to telemetry from then on
}

// Recovery records a recovery, under the same terms as Park. A resume follows it.
func (t *Telemetry) Recovery(r Recovery) {
	if t.metrics != nil {
		t.metrics.recovery.Record(context.Background(), seconds(r.End.Sub(r.Start)), with(label("outcome", r.Outcome)))
		if r.ViewLost != "" {
			t.metrics.viewsLost.Add(context.Background(), 1, with(label("why", r.ViewLost)))
		}
	}
	if t.keepsWork(r.Err != nil || r.Attempts > 1, r.End.Sub(r.Start)) {
		t.workSpans(context.Background(), &work{name: spanRecover, start: r.Start, end: r.End, session: r.Session, login: r.Login, user: r.User, backend: r.Backend, address: r.Address,
			outcome: r.Outcome, err: r.Err, steps: r.Steps},
			attribute.Int("imapproxy.recover.attempts", r.Attempts))
	}
	t.giveBack(r.Steps)
}

// Resync describes a resync of a mailbox for the sessions that are parked on it, or for a session that is
// being parked or resumed.
type Resync struct {
	User, Backend, Mailbox string // in spans only, as is Address
	Address                string // the backend's host:port; "": unknown
	Strategy               string // "qresync" or "comparison"
	Watch                  string // the source of the mailbox's hints
	Reason                 string // the source of the first hint that led to it, or "renewed", "join", "look", "park", "resume"
	Views                  int    // the number of views for which it was made
	Err                    error
	Start, End             time.Time
	Steps                  *Steps // they belong to telemetry from then on
}

// Resync records a resync. Its trace links to no login, since it may be made for many sessions. Sampled traces are kept, and
// a bounded number of those that failed or were slow.
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
	if t.keepsRetried(spanResync, r.Backend, r.Err != nil, took, r.End) {
		t.workSpans(context.Background(), &work{name: spanResync, start: r.Start, end: r.End, user: r.User, backend: r.Backend, address: r.Address,
			mailbox: r.Mailbox, outcome: outcome, err: r.Err, steps: r.Steps},
			attribute.String("imapproxy.park.strategy", valid(r.Strategy)),
			attribute.String("imapproxy.park.watch", valid(r.Watch)),
			attribute.String("imapproxy.resync.reason", valid(r.Reason)),
			attribute.Int("imapproxy.resync.views", r.Views))
	}
	t.giveBack(r.Steps)
}

// Watch describes the conversation by which a watch begins on a connection, or goes on after a hint or in good time before the backend
// would end it.
type Watch struct {
	User, Backend, Mailbox string // in spans only, as is Address; Mailbox "": several of the user's
	Address                string // the backend's host:port; "": unknown
	Watch                  string // "idle" or "notify"
	Connects               bool   // it is on a new connection
	Err                    error
	Start, End             time.Time
	Steps                  *Steps // they belong to telemetry from then on
}

// Watched makes the spans of a watch's conversation, under the same terms as Resync.
func (t *Telemetry) Watched(w Watch) {
	if t.keepsRetried(spanWatch, w.Backend, w.Err != nil, w.End.Sub(w.Start), w.End) {
		outcome := "ok"
		if w.Err != nil {
			outcome = "failed"
		}
		t.workSpans(context.Background(), &work{name: spanWatch, start: w.Start, end: w.End, user: w.User, backend: w.Backend, address: w.Address,
			mailbox: w.Mailbox, outcome: outcome, err: w.Err, steps: w.Steps},
			attribute.String("imapproxy.park.watch", valid(w.Watch)),
			attribute.Bool("imapproxy.watch.connects", w.Connects))
	}
	t.giveBack(w.Steps)
}

// PoolGiven counts a connection that was put into the pool. use is the purpose of the connection: "session"
// or "watch".
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

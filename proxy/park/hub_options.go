package park

import (
	"time"

	"imapproxy/proxy/park/view"
	"imapproxy/telemetry"
)

// HubOptions are a Hub's. The zero value is usable.
type HubOptions struct {
	// Watch chooses where hints come from: "push", "notify", "idle", "poll", or
	// "auto" (also ""), which takes what costs the backend least (see ChooseWatch). What a
	// mailbox or its backend can't have is replaced by the next dependable one.
	Watch string
	// Push says that the backends post events, which come through Queue.
	Push bool
	// Queue has hints that others have; Run takes them. nil: only Hint.
	Queue *HintQueue

	// SweepEvery is how long after a look a mailbox is looked at without any hint, PollEvery
	// how long where there is no watch. NotifyRenewEvery is how often NOTIFY is
	// set anew: a Dovecot may have fallen silent. Zero: the defaults.
	SweepEvery, PollEvery, NotifyRenewEvery time.Duration

	// MaxDiffMessages bounds the comparison strategy. Zero: resync.DefaultMaxDiffMessages.
	MaxDiffMessages uint32

	// MaxResyncs bounds how many resyncs and logins run on one backend at a time.
	// Zero: DefaultMaxResyncs.
	MaxResyncs int

	Telemetry *telemetry.Telemetry // may be nil
	Now       func() time.Time     // nil: time.Now

	// Plant is for tests of tests: the state that a resync has found goes through it before
	// the sessions parked there are given it. Where it returns nil they are given nothing.
	Plant func(mailbox string, s *view.State) *view.State
}

// Defaults and fixed times of a Hub.
const (
	DefaultSweepEvery       = 15 * time.Minute
	DefaultPollEvery        = time.Minute
	DefaultNotifyRenewEvery = 45 * time.Second
	DefaultMaxResyncs       = 8

	// notifySettle is how long after an event NOTIFY is set anew, notifyGap how far apart that
	// is at least: a millisecond of the backend's.
	notifySettle = 500 * time.Millisecond
	notifyGap    = time.Second

	// idleFor: servers may log an IDLE out after 30 minutes (RFC 9051 §6.3.13).
	idleFor = 25 * time.Minute
	// exchangeTimeout bounds one resync, and the setting up of a watch.
	exchangeTimeout = 30 * time.Second
	// lostAfter is how long failures may go on until members are told.
	lostAfter = 30 * time.Second
	// burstGap is between two resyncs of a mailbox when hints come in a burst. The
	// first of a burst is never put off.
	burstGap = 50 * time.Millisecond
	// firstBackoff to lastBackoff are between failures in a row; the first is
	// followed by another try at once.
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 8 * time.Second
)

// HubStats are figures of a Hub, for people and metrics. Counters begin with it.
type HubStats struct {
	Mailboxes, Members          int // now
	Push, Notify, Idle, Polled  int // mailboxes by where hints come from, now
	Connections                 int // held by watches, now
	Waiting                     int // mailboxes that wait for a resync, now
	Resyncs, Failed             uint64
	Hints                       map[HintSource]uint64 // that concerned a mailbox of the hub's
	Renewed, Lost, Gone, Denied uint64                // watches set up again; mailboxes given up; gone; subscriptions refused
}

package park

import (
	"time"

	"imapproxy/proxy/park/view"
	"imapproxy/telemetry"
)

// HubOptions are the options of a Hub. The zero value is usable.
type HubOptions struct {
	// Watch says which watch mailboxes get: "push", "notify", "idle", "poll", or "auto" (also ""), the one that
	// costs the backend least (ChooseWatch). A mailbox that can't have it gets the next one in that order.
	Watch string
	// Push says that the backends post events, whose hints come through Queue.
	Push bool
	// Queue has the hints of other sources; Run takes them. nil: hints come only by Hub.Hint.
	Queue *HintQueue

	// SweepEvery is how long after a resync a mailbox is resynced without a hint, PollEvery the same for a
	// mailbox without a watch. NotifyRenewEvery is how often NOTIFY is set again, since a Dovecot may have
	// stopped sending. 0: the defaults.
	SweepEvery, PollEvery, NotifyRenewEvery time.Duration

	// MaxDiffMessages is how many messages a mailbox may have for the comparison strategy. 0:
	// resync.DefaultMaxDiffMessages.
	MaxDiffMessages uint32

	// MaxResyncs bounds how many resyncs and logins run at one backend at a time. 0: DefaultMaxResyncs.
	MaxResyncs int

	Telemetry *telemetry.Telemetry // may be nil
	Now       func() time.Time     // nil: time.Now

	// Plant is for tests that check whether a test finds a fault: it replaces the state that a resync has
	// found before sessions get it. If it returns nil, they get none.
	Plant func(mailbox string, s *view.State) *view.State
}

// Defaults and fixed times of a Hub.
const (
	DefaultSweepEvery       = 15 * time.Minute
	DefaultPollEvery        = time.Minute
	DefaultNotifyRenewEvery = 45 * time.Second
	DefaultMaxResyncs       = 8

	// notifySettle is how long after an event NOTIFY is set again, notifyGap the shortest time between two of
	// these, each of which takes the backend a millisecond.
	notifySettle = 500 * time.Millisecond
	notifyGap    = time.Second

	// idleFor is how long an IDLE lasts: servers may end the connection after 30 minutes (RFC 9051 §6.3.13).
	idleFor = 25 * time.Minute
	// exchangeTimeout bounds one resync, and the setting up of a watch.
	exchangeTimeout = 30 * time.Second
	// doneTimeout bounds the wait for the answer to DONE, which needs no work of the server: a client may wait for
	// a process that hangs.
	doneTimeout = 10 * time.Second
	// lostAfter is how long failures go on before members are told.
	lostAfter = 30 * time.Second
	// burstGap is the shortest time between two resyncs of a mailbox. The first of a burst isn't delayed.
	burstGap = 50 * time.Millisecond
	// The pauses between failed attempts in a row grow from firstBackoff to lastBackoff; after the first failure
	// there is no pause.
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 8 * time.Second
)

// HubStats are figures of a Hub, for the admin page and metrics. The counters begin at NewHub.
type HubStats struct {
	Mailboxes, Members          int // as of now
	Push, Notify, Idle, Polled  int // mailboxes by their watch, as of now
	Connections                 int // held by watches, as of now
	Waiting                     int // mailboxes that wait for a resync, as of now
	Resyncs, Failed             uint64
	Hints                       map[HintSource]uint64 // those about a mailbox that the hub watches
	Renewed, Lost, Gone, Denied uint64                // watches set up again; mailboxes whose members were told Lost, or Gone; subscriptions refused
	LastLost                    time.Time             // when the last watch was Lost
}

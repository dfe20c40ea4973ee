package upstream

import (
	"sync/atomic"
	"time"

	"imapproxy/internal/clock"
)

// Progress says how a session gets on with its backend connection. The relay writes it, one goroutine for each
// direction; the sweep reads it (session.Session.LookAfter).
type Progress struct {
	heard   atomic.Int64 // when the session last read something (internal/clock)
	writing atomic.Int64 // when the write began that hasn't returned yet (internal/clock); 0: there is none
	splices atomic.Bool  // the kernel moves what is received: heard isn't kept up
	stalled atomic.Bool  // the sweep has given the connection up
	calmed  atomic.Int64 // when the client that waits was last sent a "Still here" line (internal/clock); 0: never
}

// Hears records that something was read.
func (p *Progress) Hears(now time.Time) { p.heard.Store(clock.Of(now)) }

// Heard returns when something was last read.
func (p *Progress) Heard() time.Time { return clock.At(p.heard.Load()) }

// Writes records that a write begins; Wrote, that it has returned.
func (p *Progress) Writes(now time.Time) { p.writing.Store(clock.Of(now)) }

// Wrote is described at Writes.
func (p *Progress) Wrote() { p.writing.Store(0) }

// Rewrites sets when the write began, if there is one.
func (p *Progress) Rewrites(now time.Time) {
	if at := p.writing.Load(); at != 0 {
		p.writing.CompareAndSwap(at, clock.Of(now))
	}
}

// Writing returns when the write began that hasn't returned yet; ok is false if there is none.
func (p *Progress) Writing() (since time.Time, ok bool) {
	at := p.writing.Load()
	return clock.At(at), at != 0
}

// Splices records that the kernel moves received bytes, or, with false, that it no longer does.
func (p *Progress) Splices(on bool) { p.splices.Store(on) }

// Spliced says whether the kernel moves received bytes.
func (p *Progress) Spliced() bool { return p.splices.Load() }

// Stall records that the connection is given up since the backend doesn't answer on it.
func (p *Progress) Stall() { p.stalled.Store(true) }

// Stalled says whether Stall was called.
func (p *Progress) Stalled() bool { return p.stalled.Load() }

// Reassures records that the client that waits was told that the proxy is there.
func (p *Progress) Reassures(now time.Time) { p.calmed.Store(clock.Of(now)) }

// Reassured returns when that was last the case.
func (p *Progress) Reassured() time.Time { return clock.At(p.calmed.Load()) }

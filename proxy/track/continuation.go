package track

import (
	"slices"

	"imapproxy/proxy/wire"
)

// Waits says whether Settle or Begin may wait.
func (f *InFlight) Waits() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open) >= maxInFlight || f.idle == idleAsked || f.idle == idleSpoilt
}

// Settle waits until the backend's response tells how to read the next line. After an IDLE without answer the line
// is a command if the IDLE is refused, otherwise a line of the IDLE. Of a DONE that is certain, but it waits as well: Cyrus
// 3.6 doesn't see one that it has read together with IDLE, and answers once more comes. After a line of
// IDLE other than DONE, the backend decides with its answer to IDLE.
func (f *InFlight) Settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.ended && !f.lost && (f.idle == idleAsked || f.idle == idleSpoilt) {
		f.waitLocked()
	}
}

// Ask records that the newest command announces a synchronising literal.
func (f *InFlight) Ask() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n == 0 || f.open[n-1].seq != f.seq {
		f.literal = literalRefused // it is answered already: no continuation request will come
		return
	}
	f.literal = literalAsked
	f.expectLocked(false)
}

// expectLocked records that the backend has to send a continuation request for the newest command.
func (f *InFlight) expectLocked(idle bool) {
	if n := len(f.expected); n > 0 && f.expected[n-1].seq == f.seq && f.expected[n-1].idle == idle {
		f.expected[n-1].n++
		return
	}
	f.expected = append(f.expected, continuation{seq: f.seq, idle: idle, n: 1})
}

// LiteralRefused waits until the backend accepts or refuses the announced literal, and clears that state. It
// returns true if the backend has refused the literal, so that no content follows.
func (f *InFlight) LiteralRefused() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.literal == literalAsked && !f.ended && !f.lost {
		f.waitLocked()
	}
	a := f.literal
	if a == literalAsked && f.lost {
		return false // it stays asked for
	}
	f.literal = literalNone
	return a == literalRefused
}

// LiteralLost is called after the backend connection was lost before the announced literal's first byte. It
// returns true if the client doesn't send the literal: it was told no continuation request, or the backend has
// refused the literal.
func (f *InFlight) LiteralLost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n > 0 && f.open[n-1].seq == f.seq {
		f.open[n-1].halted = f.literal == literalAsked
	}
	return f.literal != literalAgreed
}

// Prompt records a continuation request of the backend.
func (f *InFlight) Prompt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.expected) == 0 {
		if f.literal == literalAsked {
			f.promptedLocked()
		} else {
			f.prompted = true
			for i := range f.open {
				f.open[i].effects |= Conversed // it isn't known to which command the request belongs
				f.open[i].textLost = true
			}
		}
		return
	}
	d := &f.expected[0]
	switch {
	case d.idle && d.seq == f.seq && f.idle == idleAsked: // not if DONE was sent already
		f.idle = idleOn
		f.wakeLocked()
	case !d.idle && d.n == 1 && d.seq == f.seq && f.literal == literalAsked:
		f.promptedLocked()
	}
	if d.n--; d.n == 0 {
		f.expected = slices.Delete(f.expected, 0, 1)
	}
}

// promptedLocked records that the client is told to send its literal. The command can't be sent again, since
// the client would be told so twice.
func (f *InFlight) promptedLocked() {
	f.agreeLocked(literalAgreed)
	if n := len(f.open); n > 0 && f.open[n-1].seq == f.seq {
		f.open[n-1].forget(f.Texts)
	}
}

// agreeLocked sets the state of the literal and wakes the waiting goroutine.
func (f *InFlight) agreeLocked(a literalState) {
	f.literal = a
	f.wakeLocked()
}

// LineKind is the kind of a client's line at the start of a unit.
type LineKind uint8

const (
	LineCommand LineKind = iota
	lineDone             // the DONE of IDLE
	LineIdle             // another line in IDLE: the backend will answer BAD
	LineAnswer           // the answer to a continuation request that neither IDLE nor a literal caused
)

// Line returns the kind of a line.
func (f *InFlight) Line(b []byte) LineKind {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.idle == idleAsked || f.idle == idleOn:
		if wire.IsDone(b) {
			f.idle = idleDone
			return lineDone
		}
		if f.idle == idleOn {
			f.idle = idleSpoilt
			return LineIdle
		}
	case f.prompted:
		f.prompted = false
		return LineAnswer
	}
	return LineCommand
}

// Leaves adds effects to the newest command.
func (f *InFlight) Leaves(e effects) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n > 0 && f.open[n-1].seq == f.seq {
		f.open[n-1].effects |= e
		return
	}
	f.Client.leaves(&Command{seq: f.seq, effects: e, Verb: wire.Noop}, true) // it is answered already
}

// named records the mailbox that the newest command names. h is the command's head with its literals. long:
// the name was too long to be kept.
func (f *InFlight) named(h wire.CommandHead, long bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.open)
	if n == 0 || f.open[n-1].seq != f.seq {
		return // it is answered already and had no effect
	}
	switch c := &f.open[n-1]; {
	case c.Verb.Rule().Renames && long:
		c.effects |= renamesLong
	case c.Verb.Rule().Renames:
		c.effects |= f.Client.renames(h.Args)
	case f.Client.Mailbox.began != c.seq:
	case long:
		f.Client.Mailbox.doubt = BlockerLong
	default:
		f.Client.Mailbox.named(h.Args, f.Client.utf8)
	}
}

package track

import (
	"slices"

	"imapproxy/proxy/wire"
)

// idleState is where a session's IDLE stands (RFC 9051 §6.3.13).
type idleState uint8

const (
	notIdling  idleState = iota
	idleAsked            // IDLE went to the backend
	idleOn               // the backend said "+"
	idleDone             // DONE went to the backend, its tagged answer is due
	idleSpoilt           // another line did, which the backend will call BAD
)

// continuation is a "+" that the backend owes, or n of them in a row: they come in the
// order of the commands, since a server reads no further before one.
type continuation struct {
	seq  uint64 // of the command
	idle bool   // IDLE's; else a literal's
	n    int
}

// literalState is what became of a synchronising literal that was announced.
type literalState uint8

const (
	literalNone literalState = iota
	literalAsked
	literalAgreed  // "+"
	literalRefused // a tagged NO or BAD: no literal follows
)

// Waits says whether settle or begin may wait.
func (f *InFlight) Waits() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open) >= maxInFlight || f.idle == idleAsked || f.idle == idleSpoilt
}

// Settle waits until the backend's word tells what a line is. Behind IDLE it is a
// command if that was refused, else a line in IDLE; behind such a line that isn't
// DONE nothing is told before IDLE's answer.
func (f *InFlight) Settle(line []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.ended && (f.idle == idleAsked && !wire.IsDone(line) || f.idle == idleSpoilt) {
		f.room.Wait()
	}
}

// Ask records that the newest command announces a synchronising literal.
func (f *InFlight) Ask() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n == 0 || f.open[n-1].seq != f.seq {
		f.literal = literalRefused // it is answered already: no "+" will come
		return
	}
	f.literal = literalAsked
	f.expectLocked(false)
}

// expectLocked records that the newest command makes the backend owe a "+".
func (f *InFlight) expectLocked(idle bool) {
	if n := len(f.expected); n > 0 && f.expected[n-1].seq == f.seq && f.expected[n-1].idle == idle {
		f.expected[n-1].n++
		return
	}
	f.expected = append(f.expected, continuation{seq: f.seq, idle: idle, n: 1})
}

// LiteralRefused waits for what becomes of the announced literal, and forgets it. It says that the backend has
// refused it, so that none follows.
func (f *InFlight) LiteralRefused() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.literal == literalAsked && !f.ended {
		f.room.Wait()
	}
	a := f.literal
	f.literal = literalNone
	return a == literalRefused
}

// Prompt records a continuation request of the backend's.
func (f *InFlight) Prompt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.expected) == 0 {
		if f.literal == literalAsked {
			f.agreeLocked(literalAgreed)
		} else {
			f.prompted = true
			for i := range f.open {
				f.open[i].effects |= Conversed // whose it is isn't known
			}
		}
		return
	}
	d := &f.expected[0]
	switch {
	case d.idle && d.seq == f.seq && f.idle == idleAsked: // not when DONE has gone already
		f.idle = idleOn
		f.room.Broadcast()
	case !d.idle && d.n == 1 && d.seq == f.seq && f.literal == literalAsked:
		f.agreeLocked(literalAgreed)
	}
	if d.n--; d.n == 0 {
		f.expected = slices.Delete(f.expected, 0, 1)
	}
}

// agreeLocked tells who waits what became of the literal.
func (f *InFlight) agreeLocked(a literalState) {
	f.literal = a
	f.room.Broadcast()
}

// LineKind is what a line of the client's at the start of a unit is.
type LineKind uint8

const (
	LineCommand LineKind = iota
	lineDone             // IDLE's DONE
	LineIdle             // something else in IDLE: the backend will call it BAD
	LineAnswer           // to a "+" that some command of an extension got
)

// Line says what a line is.
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

// Leaves records what the newest command was found to leave behind.
func (f *InFlight) Leaves(e effects) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n > 0 && f.open[n-1].seq == f.seq {
		f.open[n-1].effects |= e
		return
	}
	f.Client.leaves(&Command{seq: f.seq, effects: e, Verb: wire.Noop}, true) // it is answered already
}

// named records the mailbox that the newest command names, whose head is h, with its literals inline. long
// says that the name was too long to be kept.
func (f *InFlight) named(h wire.CommandHead, long bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.open)
	if n == 0 || f.open[n-1].seq != f.seq {
		return // it is answered already, and nothing came of it
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

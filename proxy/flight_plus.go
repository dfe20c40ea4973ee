package proxy

import (
	"slices"

	"imapproxy/proxy/wire"
)

// idling is where a session's IDLE stands (RFC 9051 §6.3.13).
type idling uint8

const (
	notIdling  idling = iota
	idleAsked         // IDLE went to the backend
	idleOn            // the backend said "+"
	idleDone          // DONE went to the backend, its tagged answer is due
	idleSpoilt        // another line did, which the backend will call BAD
)

// due is a "+" that the backend owes, or n of them in a row: they come in the
// order of the commands, since a server reads no further before one.
type due struct {
	seq  uint64 // of the command
	idle bool   // IDLE's; else a literal's
	n    int
}

// agreement is what became of a synchronising literal that was announced.
type agreement uint8

const (
	agreeNone agreement = iota
	agreeAsked
	agreeYes // "+"
	agreeNo  // a tagged NO or BAD: no literal follows
)

// waits says whether settle or begin may wait.
func (f *flight) waits() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open) >= maxInFlight || f.idle == idleAsked || f.idle == idleSpoilt
}

// settle waits until the backend's word tells what a line is. Behind IDLE it is a
// command if that was refused, else a line in IDLE; behind such a line that isn't
// DONE nothing is told before IDLE's answer.
func (f *flight) settle(line []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.over && (f.idle == idleAsked && !wire.IsDone(line) || f.idle == idleSpoilt) {
		f.room.Wait()
	}
}

// ask records that the newest command announces a synchronising literal.
func (f *flight) ask() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n == 0 || f.open[n-1].seq != f.seq {
		f.literal = agreeNo // it is answered already: no "+" will come
		return
	}
	f.literal = agreeAsked
	f.dueLocked(false)
}

// dueLocked records that the newest command makes the backend owe a "+".
func (f *flight) dueLocked(idle bool) {
	if n := len(f.dues); n > 0 && f.dues[n-1].seq == f.seq && f.dues[n-1].idle == idle {
		f.dues[n-1].n++
		return
	}
	f.dues = append(f.dues, due{seq: f.seq, idle: idle, n: 1})
}

// verdict waits for what becomes of the announced literal, and forgets it:
// agreeYes, agreeNo, or agreeAsked when the session is over.
func (f *flight) verdict() agreement {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.literal == agreeAsked && !f.over {
		f.room.Wait()
	}
	a := f.literal
	f.literal = agreeNone
	return a
}

// prompt records a continuation request of the backend's.
func (f *flight) prompt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.dues) == 0 {
		if f.literal == agreeAsked {
			f.agreeLocked(agreeYes)
		} else {
			f.prompted = true
			for i := range f.open {
				f.open[i].effects |= conversed // whose it is isn't known
			}
		}
		return
	}
	d := &f.dues[0]
	switch {
	case d.idle && d.seq == f.seq && f.idle == idleAsked: // not when DONE has gone already
		f.idle = idleOn
		f.room.Broadcast()
	case !d.idle && d.n == 1 && d.seq == f.seq && f.literal == agreeAsked:
		f.agreeLocked(agreeYes)
	}
	if d.n--; d.n == 0 {
		f.dues = slices.Delete(f.dues, 0, 1)
	}
}

// agreeLocked tells who waits what became of the literal.
func (f *flight) agreeLocked(a agreement) {
	f.literal = a
	f.room.Broadcast()
}

// lineKind is what a line of the client's at the start of a unit is.
type lineKind uint8

const (
	lineCommand lineKind = iota
	lineDone             // IDLE's DONE
	lineIdle             // something else in IDLE: the backend will call it BAD
	lineAnswer           // to a "+" that some command of an extension got
)

// line says what a line is.
func (f *flight) line(b []byte) lineKind {
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
			return lineIdle
		}
	case f.prompted:
		f.prompted = false
		return lineAnswer
	}
	return lineCommand
}

// leaves records what the newest command was found to leave behind.
func (f *flight) leaves(e effects) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n > 0 && f.open[n-1].seq == f.seq {
		f.open[n-1].effects |= e
		return
	}
	f.told.leaves(&command{seq: f.seq, effects: e, verb: wire.Noop}, true) // it is answered already
}

// named records the mailbox that the newest command names, whose head is h, with its literals inline. long
// says that the name was too long to be kept.
func (f *flight) named(h wire.CommandHead, long bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.open)
	if n == 0 || f.open[n-1].seq != f.seq {
		return // it is answered already, and nothing came of it
	}
	switch c := &f.open[n-1]; {
	case c.verb.Rule().Renames && long:
		c.effects |= renamesLong
	case c.verb.Rule().Renames:
		c.effects |= f.told.renames(h.Args)
	case f.told.box.began != c.seq:
	case long:
		f.told.box.doubt = keptLong
	default:
		f.told.box.named(h.Args, f.told.utf8)
	}
}

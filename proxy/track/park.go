package track

import (
	"imapproxy/proxy/park/view"
)

// ParkMode is how a session can be parked.
type ParkMode uint8

const (
	ModeNone       ParkMode = iota
	ModeIdle                // in IDLE
	ModeSelected            // not in IDLE, a mailbox is selected
	ModeUnselected          // not in IDLE, no mailbox is selected
)

func (w ParkMode) String() string { return [...]string{"", "idle", "selected", "unselected"}[w] }

// CanPark says whether and how a session can be parked, and if not why. The session stays attached if:
//   - a command other than IDLE or a literal is in progress, or the session is ending;
//   - a command of unknown effect may have left state on the connection (Client.doubt, Mailbox.doubt);
//   - the backend sends no UIDVALIDITY, or its UIDs don't persist, or it has no mod-sequences and the client
//     uses them;
//   - outside IDLE: the client uses message numbers, so that its next command may be STORE 4 (after ENABLE
//     UIDONLY it can't be), or uses mod-sequences;
//   - outside IDLE, if changes are found by comparison: all current flags count as told, but only NOOP makes
//     a backend send the changes that it has held back, and the answer to NOOP may contain EXPUNGE, too.
//
// The decision uses only f.
func (f *InFlight) CanPark() (ParkMode, Blocker) { return f.canPark(false) }

// CanLeave is CanPark for a session whose user leaves its backend. A client that uses message numbers can be
// parked then as well: its view can be taken exactly, and a resume translates the numbers of its next command.
// That costs the resume a catch-up at times, which isn't worth a connection, but is worth a user who can move.
func (f *InFlight) CanLeave() (ParkMode, Blocker) { return f.canPark(true) }

func (f *InFlight) canPark(leaves bool) (ParkMode, Blocker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := &f.Client
	switch {
	case f.logout || f.bye || f.ended:
		return ModeNone, BlockerEnding
	case len(f.open) > 1 || len(f.open) == 1 && f.idle != idleOn || f.literal != literalNone || f.prompted:
		return ModeNone, BlockerCommand
	case t.doubt != BlockerNone:
		return ModeNone, t.doubt
	case !f.selected && f.idle == idleOn:
		return ModeNone, BlockerIdleUnselected
	case !f.selected:
		return ModeUnselected, BlockerNone
	case t.Mailbox.doubt != BlockerNone:
		return ModeNone, t.Mailbox.doubt
	case t.Mailbox.noModSeq && t.Dialect != view.Plain:
		return ModeNone, BlockerNoModSeq
	case t.Mailbox.Name == "" || t.Mailbox.Validity == 0:
		return ModeNone, BlockerMailbox
	case f.idle == idleOn:
		return ModeIdle, BlockerNone
	case t.Mailbox.byNumber && !t.UIDOnly && !leaves:
		return ModeNone, BlockerByNumber
	case t.Dialect != view.Plain:
		return ModeNone, BlockerModSeq
	case t.compared:
		return ModeNone, BlockerCompared
	}
	return ModeSelected, BlockerNone
}

// Calm says whether neither side owes the other anything: no command or literal is in progress but an IDLE that goes on, and the
// session isn't ending.
func (f *InFlight) Calm() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.logout || f.bye || f.ended || f.lost || f.literal != literalNone || f.prompted:
		return false
	case len(f.open) == 1:
		return f.idle == idleOn
	}
	return len(f.open) == 0
}

// LeavesNothing says whether another session may use the connection: no command is in progress, and no
// command has left state that can't be undone. idle: an IDLE may be in progress.
func (f *InFlight) LeavesNothing(idle bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.logout || f.bye || f.ended || f.Client.doubt != BlockerNone || f.literal != literalNone || f.prompted:
		return false
	case len(f.open) == 1:
		return idle && f.idle == idleOn
	}
	return len(f.open) == 0
}

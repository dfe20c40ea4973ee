package track

import (
	"imapproxy/proxy/park/view"
)

// ParkMode is how a session can be parked.
type ParkMode uint8

const (
	ModeNone       ParkMode = iota
	ModeIdle                // in IDLE
	ModeSelected            // quiet, with a mailbox selected
	ModeUnselected          // quiet, with none
)

func (w ParkMode) String() string { return [...]string{"", "idle", "selected", "unselected"}[w] }

// CanPark says whether and how a session can be parked, and if not why. The
// cases, each a reason to stay attached:
//   - a command that isn't IDLE is under way, or a literal, or the session ends;
//   - anything unknown was said that might be state: told's doubts;
//   - the backend shows no UIDVALIDITY, or UIDs that don't last, or no mod-sequences to a client that counts them;
//   - outside IDLE: a client that works by message numbers, whose next command
//     may be STORE 4 (after ENABLE UIDONLY none may), and one that counts mod-sequences;
//   - outside IDLE, where changes are found by comparison: all flags there are count
//     as told, but only NOOP makes a backend tell what it has held back, and NOOP may tell
//     EXPUNGE too.
//
// It looks at flight alone.
func (f *InFlight) CanPark() (ParkMode, Blocker) {
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
	case t.Mailbox.byNumber && !t.UIDOnly:
		return ModeNone, BlockerByNumber
	case t.Dialect != view.Plain:
		return ModeNone, BlockerModSeq
	case t.compared:
		return ModeNone, BlockerCompared
	}
	return ModeSelected, BlockerNone
}

// LeavesNothing says whether another session may have the connection: nothing is under way on it, and nothing
// that was said has left a state behind that can't be taken back. idle says that it may be in IDLE.
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

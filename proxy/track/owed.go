package track

import (
	"time"

	"imapproxy/proxy/wire"
)

// Owed says whether the backend owes the client an answer, and since when. The cases of a command:
//   - it was sent whole: since then;
//   - IDLE: as any other until the continuation request has come; none while it goes on; an answer again once
//     DONE was sent;
//   - it has announced a synchronising literal: the continuation request is owed;
//   - it is being sent: nothing is owed yet.
//
// The zero time: since the client's last byte.
func (f *InFlight) Owed() (since time.Time, owed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.open {
		c := &f.open[i]
		switch {
		case c.Sent.IsZero() && (i < len(f.open)-1 || f.literal != literalAsked):
		case c.Sent.IsZero(), c.Verb == wire.Idle && (f.idle == idleDone || f.idle == idleSpoilt):
			owed = true
		case c.Verb == wire.Idle && f.idle == idleOn:
		default: // the commands before it owed nothing, or since the client's last byte
			return c.Sent, true
		}
	}
	return time.Time{}, owed
}

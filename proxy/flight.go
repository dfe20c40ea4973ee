package proxy

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"imapproxy/proxy/wire"
)

// maxInFlight bounds the commands of one session that wait for their answers.
// A client that pipelines more is read on when some are answered.
const maxInFlight = 256

// command is one that was relayed and isn't answered yet.
type command struct {
	seq     uint64 // counts the session's commands
	tag     []byte // its room is used again by later commands
	verb    wire.Verb
	start   time.Time     // its first byte was read
	sent    time.Time     // its last byte was handed to the backend; zero until then
	blocked time.Duration // how long writes to the client had blocked when it was sent
	in      int64         // its bytes
	changes bool          // it may change a mailbox; known only where parking is on
	effects effects       // as far as they are known; only where parking is on
}

// flight follows along with one session: which commands wait for their answers,
// whether the client idles, what it has selected. Answers are matched by tag,
// never by position: Dovecot answers pipelined commands out of order.
//
// Both of the relay's goroutines use it, each for some tens of nanoseconds a
// command.
type flight struct {
	mu   sync.Mutex
	room sync.Cond // signalled when there is room again, at a literal's or IDLE's verdict, and at the end

	// guarded by mu
	open     []command // oldest first
	seq      uint64    // of the newest command
	dues     []due     // oldest first; those of commands in open, so bounded as they are
	idle     idling
	literal  agreement // on the last literal that the newest command announced
	prompted bool      // a "+" that no literal and no IDLE asked for: the next line is no command
	selected bool
	told     told // followed only where parks is set
	parks    bool // parking is on; set before the relay begins
	logout   bool
	bye      bool // the backend has said BYE
	over     bool // no more will be answered
}

// trim gives back the room that commands had, of which a session that is being
// parked has IDLE at most.
func (f *flight) trim() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open, f.dues = exactly(f.open), exactly(f.dues)
	f.told.box.known = nil // the view has it
	f.told.before, f.told.hasBefore = nil, false
}

// exactly is a copy without room to spare.
func exactly[T any](s []T) []T {
	if len(s) == 0 {
		return nil // a clone would keep the array
	}
	return slices.Clone(s)
}

func (f *flight) init() { f.room.L = &f.mu }

// begin records a command whose first byte was read at now. It waits while
// maxInFlight are open, and says false when the session is over.
func (f *flight) begin(h wire.CommandHead, whole bool, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.open) >= maxInFlight && !f.over {
		f.room.Wait()
	}
	if f.over {
		return false
	}
	n := len(f.open)
	selecting := f.parks && f.selecting()
	if n < cap(f.open) {
		f.open = f.open[:n+1]
	} else {
		f.open = append(f.open, command{})
	}
	c := &f.open[n]
	f.seq++
	*c = command{seq: f.seq, tag: append(c.tag[:0], h.Tag...), verb: h.Verb, start: now}
	if f.parks {
		c.effects = f.told.command(c.seq, h, whole, f.selected, selecting)
		c.changes = changes(h, whole, f.told.box.readOnly)
		if h.Verb == wire.Store || h.Verb == wire.UIDStore {
			f.told.stores(c.seq, h, whole)
		}
	}
	switch h.Verb {
	case wire.Idle:
		f.idle = idleAsked
		f.dueLocked(true)
	case wire.Logout:
		f.logout = true
	}
	return true
}

// sent records that the newest command is with the backend, whole. blocked is
// the time that writes to the client have taken so far.
func (f *flight) sent(bytes int64, now time.Time, blocked time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n > 0 && f.open[n-1].seq == f.seq { // else it is answered already
		c := &f.open[n-1]
		c.sent, c.blocked, c.in = now, blocked, bytes
	}
}

// answered takes the command with this tag out, and returns it by value, its
// tag excepted.
func (f *flight) answered(h wire.ResponseHead) (c command, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := 0
	for ; i < len(f.open); i++ {
		if bytes.Equal(f.open[i].tag, h.Tag) {
			break
		}
	}
	if i == len(f.open) {
		f.disputeLocked() // of what the backend took for a command, and the proxy didn't
		return command{}, false
	}
	c = f.open[i]
	room := c.tag[:0]
	if c.seq == f.seq && f.literal == agreeAsked {
		f.agreeLocked(agreeNo)
	}
	f.dues = slices.DeleteFunc(f.dues, func(d due) bool { return d.seq == c.seq })
	copy(f.open[i:], f.open[i+1:])
	last := len(f.open) - 1
	f.open[last] = command{tag: room}
	f.open = f.open[:last]
	if last == maxInFlight-1 {
		f.room.Broadcast()
	}
	c.tag = nil
	f.follow(c.verb, h.Status)
	if f.parks {
		if k := f.told.box.known; k != nil && (c.verb == wire.Store || c.verb == wire.UIDStore) {
			k.stored(c.seq, h, len(f.open) == 0)
		}
		f.told.answered(&c, h, f.selected, f.selecting())
	}
	return c, true
}

// selecting says whether a SELECT or EXAMINE waits for its answer.
func (f *flight) selecting() bool {
	return slices.ContainsFunc(f.open, func(c command) bool { return c.verb.Rule().Selects })
}

// follow keeps the IMAP state (RFC 9051 §3, §6.3.2, §6.4.1). After a SELECT that is answered BAD the
// mailbox of before it is still selected, but where the backend has said that it closed that: Dovecot does
// both, by what is wrong with it.
func (f *flight) follow(v wire.Verb, status wire.Status) {
	switch v {
	case wire.Idle:
		if !slices.ContainsFunc(f.open, func(c command) bool { return c.verb == wire.Idle }) {
			f.idle = notIdling
			f.room.Broadcast()
		}
	case wire.Logout:
		f.logout = status == wire.OK
	}
	switch r := v.Rule(); {
	case r.Selects && (status != wire.BAD || f.told.closed):
		f.selected = status == wire.OK
	case r.Selects:
	case r.Leaves && status == wire.OK:
		f.selected = false
	}
}

// untagged follows what the backend says unasked.
func (f *flight) untagged(h wire.ResponseHead, whole bool) {
	if !f.parks {
		return
	}
	if h.Number > 0 && (named(h.Name, "FETCH") || named(h.Name, "UIDFETCH")) {
		return // fetched follows them
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told.untagged(h, whole)
}

// fetched follows a FETCH response that says something of flags, or wasn't seen whole.
func (f *flight) fetched(r *fetchResponse) {
	if !f.parks {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.selecting() { // it may be of either mailbox
		f.told.box.heard = true
		return
	}
	f.told.fetched(r)
}

// waiting says how many commands wait for their answers.
func (f *flight) waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open)
}

// busy says whether a command is under way that isn't IDLE.
func (f *flight) busy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open) > 1 || len(f.open) == 1 && f.open[0].verb != wire.Idle
}

// sawBye records the backend's BYE.
func (f *flight) sawBye() {
	f.mu.Lock()
	f.bye = true
	f.mu.Unlock()
}

// farewell says whether the session is ending as IMAP has it: the client said
// LOGOUT, or the backend has said BYE itself.
func (f *flight) farewell() (logout, bye bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logout, f.bye
}

// state is the IMAP state for people.
func (f *flight) state() (state string, idle bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state = "authenticated"
	switch {
	case f.logout:
		state = "logout"
	case f.selected:
		state = "selected"
	}
	return state, f.idle == idleOn
}

// idleTag is the tag of the client's IDLE.
func (f *flight) idleTag() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.open {
		if c.verb == wire.Idle {
			return string(c.tag)
		}
	}
	return ""
}

// stop lets nobody wait any more.
func (f *flight) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	f.room.Broadcast()
}

// rest returns the commands that were never answered.
func (f *flight) rest() []command {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

package track

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"imapproxy/proxy/wire"
)

// maxInFlight bounds the commands of one session that wait for their answers. If a client pipelines more, the
// proxy reads on when some are answered.
const maxInFlight = 256

// MaxTag is the length of the longest tag that is relayed. wire.MaxHead must hold a tag and a verb.
const MaxTag = 128

// Command is a command that was relayed and isn't answered yet.
type Command struct {
	seq     uint64 // counts the session's commands
	tag     []byte // its memory is reused by later commands
	Verb    wire.Verb
	Start   time.Time     // when its first byte was read
	Sent    time.Time     // when its last byte was sent to the backend; zero until then
	Blocked time.Duration // how long writes to the client had blocked in total when the command was sent
	In      int64         // its length in bytes
	Changes bool          // it may change a mailbox; set only if parking is on
	effects effects       // the effects that are known so far; set only if parking is on
	// text is the whole command, where it may have to be said again (Cut); its room is used again.
	text     []byte
	textLost bool
	told     Told // what the client had been told when it began
}

// InFlight follows one session: which commands wait for their answers, whether the client is in IDLE, which
// mailbox is selected. Answers are matched by tag, never by position: Dovecot answers pipelined commands out
// of order.
//
// Both of the relay's goroutines use it, each for some tens of nanoseconds per command.
type InFlight struct {
	mu   sync.Mutex
	room sync.Cond // signalled when open is no longer full, when the backend accepts or refuses a literal or IDLE, and at the end

	// guarded by mu
	open     []Command      // oldest first
	seq      uint64         // the number of the newest command
	expected []continuation // oldest first; they belong to commands in open, so they are bounded as well
	idle     idleState
	literal  literalState // state of the last literal that the newest command announced
	prompted bool         // a continuation request came that neither a literal nor IDLE caused: the next line is no command
	selected bool
	Client   Client // followed only if Parks is set
	Parks    bool   // parking is on; set before the relay begins
	Texts    *Texts // for long commands; set with it
	logout   bool
	bye      bool // the backend has said BYE
	byeTold  bool // and the client has heard it
	ended    bool // no more commands will be answered
	lost     bool // the backend says no more: who waits for its word goes on
}

// Trim frees the memory of past commands before a session is parked. Such a session has at most an IDLE in
// flight.
func (f *InFlight) Trim() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open, f.expected = exactly(f.open), exactly(f.expected)
	f.Client.Mailbox.known = nil // the view has it
	f.Client.before, f.Client.hasBefore = nil, false
}

// exactly returns a copy without spare capacity.
func exactly[T any](s []T) []T {
	if len(s) == 0 {
		return nil // a clone would keep the array
	}
	return slices.Clone(s)
}

// Init prepares f. parks: parking is on. compared: the backend has no QRESYNC.
func (f *InFlight) Init(parks, compared bool) {
	f.room.L = &f.mu
	f.Parks, f.Client.compared = parks, compared
}

// Begin records a command whose first byte was read at now. It waits while maxInFlight commands are open, and
// returns false if the session has ended.
func (f *InFlight) Begin(h wire.CommandHead, whole bool, now time.Time) bool {
	return f.BeginWith(h, nil, whole, 0, now)
}

// BeginWith is Begin for a command that is said again where its connection is lost: text is what has come of it, told
// what the client has been told so far.
func (f *InFlight) BeginWith(h wire.CommandHead, text []byte, whole bool, told Told, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.open) >= maxInFlight && !f.ended && !f.lost {
		f.room.Wait()
	}
	if f.ended {
		return false
	}
	n := len(f.open)
	selecting := f.Parks && f.selecting()
	if n < cap(f.open) {
		f.open = f.open[:n+1]
	} else {
		f.open = append(f.open, Command{})
	}
	c := &f.open[n]
	f.seq++
	*c = Command{seq: f.seq, tag: append(c.tag[:0], h.Tag...), text: c.text[:0], Verb: h.Verb, Start: now}
	if f.Parks {
		if c.told = told; h.Verb.Rule().Loss != wire.LossRefused {
			c.keep(f.Texts, text)
		}
		c.effects = f.Client.command(c.seq, h, whole, f.selected, selecting)
		c.Changes = changes(h, whole, f.Client.Mailbox.ReadOnly)
		if h.Verb == wire.Store || h.Verb == wire.UIDStore {
			f.Client.stores(c.seq, h, whole)
		}
	}
	switch h.Verb {
	case wire.Idle:
		f.idle = idleAsked
		f.expectLocked(true)
	case wire.Logout:
		f.logout = true
	}
	return true
}

// Sent records that the whole newest command was sent to the backend. blocked is the time that writes to the
// client have taken so far.
func (f *InFlight) Sent(bytes int64, now time.Time, blocked time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n > 0 && f.open[n-1].seq == f.seq { // else it is answered already
		c := &f.open[n-1]
		c.Sent, c.Blocked, c.In = now, blocked, bytes
	}
}

// Answered removes the command with this tag and returns it without its tag.
func (f *InFlight) Answered(h wire.ResponseHead) (c Command, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := 0
	for ; i < len(f.open); i++ {
		if bytes.Equal(f.open[i].tag, h.Tag) {
			break
		}
	}
	if i == len(f.open) {
		f.disputeLocked() // the backend has read bytes as a command that the proxy hasn't
		return Command{}, false
	}
	c = f.open[i]
	room := c.room(f.Texts)
	if c.seq == f.seq && f.literal == literalAsked {
		f.agreeLocked(literalRefused)
	}
	f.expected = slices.DeleteFunc(f.expected, func(d continuation) bool { return d.seq == c.seq })
	copy(f.open[i:], f.open[i+1:])
	last := len(f.open) - 1
	f.open[last] = room
	f.open = f.open[:last]
	if last == maxInFlight-1 {
		f.room.Broadcast()
	}
	c.tag, c.text = nil, nil
	f.follow(c.Verb, h.Status)
	if f.Parks {
		if k := f.Client.Mailbox.known; k != nil && (c.Verb == wire.Store || c.Verb == wire.UIDStore) {
			k.stored(c.seq, h, len(f.open) == 0)
		}
		f.Client.answered(&c, h, f.selected, f.selecting())
	}
	return c, true
}

// selecting says whether a SELECT or EXAMINE waits for its answer.
func (f *InFlight) selecting() bool {
	return slices.ContainsFunc(f.open, func(c Command) bool { return c.Verb.Rule().Selects })
}

// follow updates the IMAP state (RFC 9051 §3, §6.3.2, §6.4.1). After a SELECT that is answered BAD the
// mailbox before it is still selected, unless the backend has sent the code CLOSED: Dovecot does either,
// depending on the error.
func (f *InFlight) follow(v wire.Verb, status wire.Status) {
	switch v {
	case wire.Idle:
		if !slices.ContainsFunc(f.open, func(c Command) bool { return c.Verb == wire.Idle }) {
			f.idle = notIdling
			f.room.Broadcast()
		}
	case wire.Logout:
		f.logout = status == wire.OK
	}
	switch r := v.Rule(); {
	case r.Selects && (status != wire.BAD || f.Client.closed):
		f.selected = status == wire.OK
	case r.Selects:
	case r.Leaves && status == wire.OK:
		f.selected = false
	}
}

// Untagged follows an untagged response.
func (f *InFlight) Untagged(h wire.ResponseHead, whole bool) {
	if !f.Parks {
		return
	}
	if h.Number > 0 && (wire.Is(h.Name, "FETCH") || wire.Is(h.Name, "UIDFETCH")) {
		return // Fetched follows them
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Client.untagged(h, whole)
}

// Fetched follows a FETCH response that tells something of flags, or wasn't seen whole.
func (f *InFlight) Fetched(r *FetchResponse) {
	if !f.Parks {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.selecting() { // the response may be about either mailbox
		f.Client.Mailbox.heard = true
		return
	}
	f.Client.fetched(r)
}

// Waiting returns how many commands wait for their answers.
func (f *InFlight) Waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open)
}

// Busy says whether a command other than IDLE is in progress.
func (f *InFlight) Busy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open) > 1 || len(f.open) == 1 && f.open[0].Verb != wire.Idle
}

// SawBye records a BYE of the backend's. kept says that the client isn't told of it yet.
func (f *InFlight) SawBye(kept bool) {
	f.mu.Lock()
	f.bye, f.byeTold = true, !kept
	f.mu.Unlock()
}

// Farewell says whether the session ends by the protocol: the client sent LOGOUT, or the backend sent BYE.
func (f *InFlight) Farewell() (logout, bye bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logout, f.bye
}

// State returns the IMAP state for human readers.
func (f *InFlight) State() (state string, idle bool) {
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

// Selected says whether a mailbox is selected.
func (f *InFlight) Selected() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.selected
}

// IdleTag returns the tag of the client's IDLE.
func (f *InFlight) IdleTag() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.open {
		if c.Verb == wire.Idle {
			return string(c.tag)
		}
	}
	return ""
}

// Stop wakes all waiting goroutines: no more commands are answered.
func (f *InFlight) Stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.room.Broadcast()
}

// Rest returns the commands that were never answered.
func (f *InFlight) Rest() []Command {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

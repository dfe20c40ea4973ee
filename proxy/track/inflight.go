package track

import (
	"slices"
	"sync"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// maxInFlight bounds the commands of one session that wait for their answers. If a client pipelines more, the
// proxy reads on when some are answered.
const maxInFlight = 256

// idleState is the state of a session's IDLE (RFC 9051 §6.3.13).
type idleState uint8

const (
	notIdling  idleState = iota
	idleAsked            // IDLE was sent to the backend
	idleOn               // the backend has sent the continuation request
	idleDone             // DONE was sent to the backend, which hasn't answered
	idleSpoilt           // a line other than DONE was sent, which the backend will answer BAD
)

// continuation is a continuation request that the backend has yet to send, or n of them in a row. They come
// in the order of the commands, since a server reads no further before it sends one.
type continuation struct {
	seq  uint64 // the number of the command
	idle bool   // the command is IDLE; otherwise it has a literal
	n    int
}

// literalState is the state of an announced synchronising literal.
type literalState uint8

const (
	literalNone literalState = iota
	literalAsked
	literalAgreed  // the backend has sent the continuation request
	literalRefused // the command was answered NO or BAD: no literal follows
)

// InFlight follows one session: which commands wait for their answers, whether the client is in IDLE, which
// mailbox is selected. Answers are matched by tag, never by position: Dovecot answers pipelined commands out
// of order.
//
// Both of the relay's goroutines use it, each for some tens of nanoseconds per command.
type InFlight struct {
	mu sync.Mutex

	// guarded by mu
	room     *sync.Cond     // signalled when open is no longer full, when the backend accepts or refuses a literal or IDLE, and at the end; nil: no goroutine waits
	open     []Command      // oldest first
	seq      uint64         // the number of the newest command
	expected []continuation // oldest first; they belong to commands in open, so they are bounded as well
	Client   Client         // followed only if Parks is set
	Texts    *Texts         // for long commands; set with Parks
	Parks    bool           // parking is on; set before the relay begins
	idle     idleState
	literal  literalState // state of the last literal that the newest command announced
	prompted bool         // a continuation request came that neither a literal nor IDLE caused: the next line is no command
	selected bool
	logout   bool
	bye      bool // the backend has said BYE
	byeTold  bool // and the client has heard it
	ended    bool // no more commands will be answered
	lost     bool // the backend says no more: who waits for its word goes on
}

// Trim frees the memory of past commands before a session is parked. Such a session has at most an IDLE in
// flight. Until Mailbox.Update or Mailbox.Counts is called, Find fails.
func (f *InFlight) Trim() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open, f.expected = exactly(f.open), exactly(f.expected)
	f.Client.Mailbox.known = nil // the view has it
	f.Client.before, f.Client.hasBefore = nil, false
	f.Client.Mailbox.tally = nil // the view has it
	f.room = nil                 // a parked session has no goroutine that could wait
}

// waitLocked waits for the next wakeLocked.
func (f *InFlight) waitLocked() {
	if f.room == nil {
		f.room = sync.NewCond(&f.mu)
	}
	f.room.Wait()
}

// wakeLocked wakes all goroutines that wait.
func (f *InFlight) wakeLocked() {
	if f.room != nil {
		f.room.Broadcast()
	}
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
	f.Parks, f.Client.compared = parks, compared
}

// selecting says whether a SELECT or EXAMINE waits for its answer.
func (f *InFlight) selecting() bool {
	return slices.ContainsFunc(f.open, func(c Command) bool { return c.Verb.Rule().Selects })
}

// Waiting returns how many commands wait for their answers.
func (f *InFlight) Waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open)
}

// Drain waits until all commands are answered. It returns false if the session ends or its backend connection is lost before.
func (f *InFlight) Drain() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.open) > 0 && !f.ended && !f.lost {
		f.waitLocked()
	}
	return len(f.open) == 0
}

// TakesCommand says whether the client's next line is a command.
func (f *InFlight) TakesCommand() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return (f.idle == notIdling || f.idle == idleDone) && !f.prompted
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

// Extensions returns what the client has enabled, in upper case, and how it uses mod-sequences. Any goroutine may call it.
func (f *InFlight) Extensions() (enabled []string, dialect view.Dialect) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Client.Enabled, f.Client.Dialect // what is appended later is behind its end
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
	f.wakeLocked()
}

// Rest returns the commands that were never answered.
func (f *InFlight) Rest() []Command {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

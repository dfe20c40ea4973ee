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
}

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
	if n < cap(f.open) {
		f.open = f.open[:n+1]
	} else {
		f.open = append(f.open, command{})
	}
	c := &f.open[n]
	f.seq++
	*c = command{seq: f.seq, tag: append(c.tag[:0], h.Tag...), verb: h.Verb, start: now}
	if f.parks {
		f.told.command(h, whole)
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
		f.told.answered(c.verb, h.Status, h.Rest)
	}
	return c, true
}

// follow keeps the IMAP state (RFC 9051 §3, §6.3.2, §6.4.1).
func (f *flight) follow(v wire.Verb, status wire.Status) {
	switch v {
	case wire.Idle:
		if !slices.ContainsFunc(f.open, func(c command) bool { return c.verb == wire.Idle }) {
			f.idle = notIdling
			f.room.Broadcast()
		}
	case wire.Logout:
		f.logout = status == wire.OK
	case wire.Select, wire.Examine:
		if status != wire.BAD {
			f.selected = status == wire.OK
		}
	case wire.Close, wire.Unselect:
		if status == wire.OK {
			f.selected = false
		}
	}
}

// untagged follows what the backend says unasked.
func (f *flight) untagged(h wire.ResponseHead, whole bool) {
	if !f.parks {
		return
	}
	if h.Number > 0 && len(h.Name) == len("FETCH") && bytes.EqualFold(h.Name, []byte("FETCH")) {
		return // the many; a view's bound covers flags
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told.untagged(h, whole)
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

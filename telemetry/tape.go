package telemetry

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"imapproxy/proxy/wire"
)

// Bounds of what is remembered of single sessions.
const (
	KeptCommands    = 16384 // of all sessions
	KeptAttachments = 8192  // changes, of all sessions
	LastCommands    = 20    // that SessionCommands returns of a session
	LastAttachments = 50    // changes that SessionAttachments returns of a session
)

// SessionCommand is one of a session's last commands.
type SessionCommand struct {
	Time                                         time.Time // of its end
	Verb, Status                                 string
	Took                                         time.Duration
	ResumeWait, Forward, BackendWait, ClientWait time.Duration
	TraceID                                      string // "": no trace was kept
}

// AttachmentChange is a change of the state of a session's backend connection.
type AttachmentChange struct {
	Time     time.Time
	Session  string
	From, To string
}

// tape holds the last commands of all sessions, the latest of which replace the oldest. It takes a megabyte whatever the number of sessions is, since a session
// itself would have to hold its commands while it is silent. Writing takes no lock and allocates nothing.
type tape struct {
	seed maphash.Seed
	next atomic.Uint64 // how many commands were written
	all  [KeptCommands]taped
}

// taped is a command in atomic words, so that it may be read while it is replaced.
type taped struct {
	number    atomic.Uint64 // 1 for the first command; 0 while the words are written
	session   atomic.Uint64 // a hash of its id
	end       atomic.Int64  // Unix time in nanoseconds
	wait      atomic.Uint64 // microseconds: took, and of the backend
	share     atomic.Uint64 // microseconds: without a backend connection, and until the backend had it
	what      atomic.Uint64 // verb and status
	traceHigh atomic.Uint64
	traceLow  atomic.Uint64
}

func newTape() *tape { return &tape{seed: maphash.MakeSeed()} }

// write writes a command. id is its trace's, zero if none was kept.
func (p *tape) write(session string, verb wire.Verb, status string, end time.Time, took, resume, forward, backend time.Duration, id trace.TraceID) {
	n := p.next.Add(1)
	r := &p.all[n%KeptCommands]
	r.number.Store(0)
	r.session.Store(p.key(session))
	r.end.Store(end.UnixNano())
	r.wait.Store(twoTimes(took, backend))
	r.share.Store(twoTimes(resume, forward))
	r.what.Store(uint64(verb)<<8 | uint64(statusIndex(status))) //nolint:gosec // a verb and a status are small and not negative
	high, low := traceWords(id)
	r.traceHigh.Store(high)
	r.traceLow.Store(low)
	r.number.Store(n)
}

// read returns a session's last commands, the latest first.
func (p *tape) read(session string, most int) (all []SessionCommand) {
	key := p.key(session)
	p.each(func(of uint64) bool { return of == key }, func(_ uint64, c SessionCommand) bool {
		all = append(all, c)
		return len(all) < most
	})
	return all
}

// key is what a session's commands are found by.
func (p *tape) key(session string) uint64 { return maphash.String(p.seed, session) }

// each calls f for the last commands of the sessions whose keys are wanted, the latest first, until f returns false.
func (p *tape) each(wanted func(key uint64) bool, f func(key uint64, c SessionCommand) bool) {
	last := p.next.Load()
	for n := last; n > 0 && n+KeptCommands > last; n-- {
		r := &p.all[n%KeptCommands]
		key := r.session.Load()
		if r.number.Load() != n || !wanted(key) {
			continue
		}
		wait, share, what := r.wait.Load(), r.share.Load(), r.what.Load()
		c := SessionCommand{Time: time.Unix(0, r.end.Load()), Verb: wire.Verb(what >> 8).String(), Status: statusLabels[what&0xff], //nolint:gosec // as it was written
			Took: firstTime(wait), BackendWait: secondTime(wait), ResumeWait: firstTime(share), Forward: secondTime(share), TraceID: traceText(r.traceHigh.Load(), r.traceLow.Load())}
		c.ClientWait = max(c.Took-c.ResumeWait-c.Forward-c.BackendWait, 0)
		if r.number.Load() == n && !f(key, c) {
			return
		}
	}
}

// twoTimes puts two times into a word, in microseconds. More than an hour and eleven minutes becomes that.
func twoTimes(a, b time.Duration) uint64 {
	short := func(d time.Duration) uint64 { return uint64(min(max(d.Microseconds(), 0), math.MaxUint32)) } //nolint:gosec // it isn't negative
	return short(a)<<32 | short(b)
}

func firstTime(word uint64) time.Duration { return time.Duration(word>>32) * time.Microsecond } //nolint:gosec // 32 bits
func secondTime(word uint64) time.Duration {
	return time.Duration(word&math.MaxUint32) * time.Microsecond
} //nolint:gosec // 32 bits

// traceWords and traceText turn a trace's id into words and into text; "" is the id zero.
func traceWords(id trace.TraceID) (high, low uint64) {
	return binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
}

func traceText(high, low uint64) string {
	var id trace.TraceID
	binary.BigEndian.PutUint64(id[:8], high)
	binary.BigEndian.PutUint64(id[8:], low)
	if !id.IsValid() {
		return ""
	}
	return id.String()
}

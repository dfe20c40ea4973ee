package session

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"imapproxy/internal/clock"
	"imapproxy/proxy/shared"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// Bounds of commands and responses about shared mailboxes; literals stream.
const (
	maxSharedLine   = 1 << 20
	maxSharedAnswer = 4 << 20
)

// answerWithin bounds the silence of a backend that owes an answer about a shared mailbox.
const answerWithin = 5 * time.Minute

// visit is the state of the phase in which a session uses mailboxes of other users.
type visit struct {
	s   *Session
	set *SharedOptions
	n   shared.Space

	client *wire.Reader
	home   *leg // the session's own connection
	at     *leg // the connection that has a shared mailbox selected; nil: none is
	ask    *leg // a connection for commands about other mailboxes of an owner; nil: there is none

	homeUsed    time.Time         // when the own connection was last used
	rights      time.Time         // when the rights on the selected mailbox were last looked at
	proved      time.Time         // when they were last found
	began       time.Time         // when the current command was read
	head        wire.CommandHead  // of the current command
	literal     bool              // its first line ends with a literal
	tags        int               // number of the tags of the proxy's own commands that stream
	homeLacks   bool              // CONDSTORE is to be enabled on the own connection
	homeCut     bool              // the own connection was left in the middle of a command
	away        bool              // the own connection was given up (restHome); home is of no use
	homeSelects bool              // the own connection has a mailbox selected that the client has left
	silent      map[string]bool   // while a LIST is answered: the IDs of backends that didn't answer, which aren't asked again; nil otherwise
	slow        map[string]string // the same: the owner about whom a backend, by its ID, has failed to answer
	partly      bool              // the client's command was read in part, so that it can't be refused
	refuses     bool              // the client has sent more behind a command that changes something and was lost, or behind a COPY that was refused
	ahead       bool              // while refuses: the client had sent more when it was last written to, before it could read that
}

// leg is one of the connections of a visit.
type leg struct {
	conn   *upstream.Conn
	r      *wire.Reader
	owner  string        // "": the user's own
	pick   *routing.Pick // the owner's; nil for the user's own
	box    string        // the owner's name of the selected mailbox; "": none
	closed bool          // it was given up
	ronly  bool          // it was selected read-only
	heard  bool          // the backend has said something since the current command began
	idles  atomic.Bool   // IDLE is in progress: silence is no sign of trouble
}

func newLeg(c *upstream.Conn) *leg {
	return &leg{conn: c, r: wire.NewReader(c, maxSharedAnswer, shared.MaxName)}
}

// lostLeg is the error of a connection to a backend.
type lostLeg struct {
	leg *leg
	err error
}

func (e *lostLeg) Error() string {
	return fmt.Sprintf("the connection to a backend is lost: %v", e.err)
}
func (e *lostLeg) Unwrap() error { return e.err }

// errClientSide is an error of the client's side of a visit.
var errClientSide = errors.New("the client's connection")

// close gives up a connection to an owner's backend, once.
func (o *visit) close(l *leg) {
	if l == nil || l == o.home || l.closed {
		return
	}
	l.closed = true
	if o.at == l {
		o.at = nil
	}
	if o.ask == l {
		o.ask = nil
	}
	o.s.visited(l.conn)
	_ = l.conn.Abort()
	l.pick.Release()
	o.s.env.Registry.leaves(o.s, l.owner)
}

// waits records that a backend is waited for, got that it isn't any more. The sweep looks at it (noticeVisitStall). While IDLE is in progress the
// wait counts for nothing, until owes is called.
func (o *visit) waits(l *leg) {
	if l.idles.Load() {
		l.conn.Progress.Writes(clock.At(math.MaxInt64))
		return
	}
	l.conn.Progress.Writes(o.s.env.Now())
}

func (o *visit) got(l *leg) { l.conn.Progress.Wrote() }

// owes records that a backend owes an answer from now on, for which the goroutine beside waits: if it does so now, and not for the client.
func (o *visit) owes(l *leg) {
	l.idles.Store(false)
	l.conn.LimitReads(o.s.env.Now().Add(answerWithin))
	l.conn.Progress.Rewrites(o.s.env.Now())
}

// read reads from a backend: piece is called with what comes, while the backend isn't waited for.
func (o *visit) read(l *leg, size int64, piece func([]byte) error) error {
	again := func() { // what was written to the other side meanwhile may have taken long
		if !l.idles.Load() {
			l.conn.LimitReads(o.s.env.Now().Add(answerWithin))
		}
		o.waits(l)
	}
	again()
	defer o.got(l)
	return l.r.Copy(func(b []byte) error {
		o.hears(l)
		defer again()
		return piece(b)
	}, size)
}

// hears records that a backend that was waited for has said something.
func (o *visit) hears(l *leg) {
	o.got(l)
	now := o.s.env.Now()
	l.conn.Progress.Hears(now)
	o.s.seen(now)
}

// write writes whole responses, or a part of one, to the client.
func (o *visit) write(b []byte, boundary bool) error {
	if o.refuses {
		o.ahead = o.more()
	}
	o.s.down.gave(int64(len(b)))
	if err := o.s.out.relay(b, boundary); err != nil {
		return errors.Join(errClientSide, err)
	}
	return nil
}

// answer writes a tagged answer and reports the command.
func (o *visit) answer(h wire.CommandHead, status wire.Status, text string) error {
	if status != wire.OK && h.Verb.Rule().Names == wire.SecondMailbox { // see lost
		o.refuses = o.refuses || o.more()
	}
	if err := o.write([]byte(string(h.Tag)+" "+status.String()+" "+text+"\r\n"), true); err != nil {
		return err
	}
	o.done(h, status)
	return nil
}

// lost answers NO to a command of which a connection is lost or can't be made. What the client has sent behind it was sent before the client could read
// that: if it was to change something, what changes something is answered NO as well, so that a message isn't removed that wasn't copied.
func (o *visit) lost(h wire.CommandHead, text string) error {
	o.refuses = o.refuses || h.Verb.Rule().Alters() && o.more()
	return o.answer(h, wire.NO, text)
}

// done reports a command that was answered.
func (o *visit) done(h wire.CommandHead, status wire.Status) {
	s := o.s
	s.commands.Add(1)
	s.lastVerb.Store(uint32(h.Verb)) //nolint:gosec // there are few verbs
	s.env.Telemetry.Command(telemetry.Command{Session: s.id, Login: s.trace(), User: s.user, Backend: s.picked().Backend.Shown(),
		Verb: h.Verb, Status: status.String(), Start: o.began, End: s.env.Now(), BytesOut: s.takePushed()})
}

// more says whether the client has sent more than was read.
func (o *visit) more() bool {
	return o.client.HasBuffered() || len(o.s.client.PutBack()) > 0 || o.s.client.Arrived()
}

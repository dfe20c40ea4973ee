package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// excusesInARow is how many failures of probes the connections that wait excuse, without one that
// succeeds in between: a backend that hangs is called down then, however many wait. One
// in eight of them is closed at the first, one in four at the second, half of them at the third.
const excusesInARow = 3

// hint is what a probe's failure says of the backend's room for another connection.
type hint uint8

const (
	hintNone   hint = iota // the backend can't be used, full or not
	hintClosed             // it may be full: connections are closed for that, and for other reasons
	hintSilent             // so may one that says nothing: Cyrus at maxchild, Dovecot at process_limit
	hintBye                // BYE in place of a greeting
	hintFull               // it says so, and lives
)

// Excuses says that a probe's failure isn't evidence against the backend. The cases, the
// first that applies:
//
//   - a shortage of the proxy's own: yes.
//   - the backend says that it is full: yes.
//   - the backend can't be reached, or does what a full one doesn't (see hintOf): no,
//     however many connections wait.
//   - the proxy holds all of the connections that the backend is known to take: yes.
//   - connections to the backend wait: yes, a few times in a row. Some of them are closed, so
//     that the next probe finds a place.
//
// What the backend takes is learnt from BYE and from silence.
func (r *Room) Excuses(id string, err error) bool {
	if IsShortage(err) {
		return true
	}
	h := hintOf(err)
	switch h {
	case hintNone:
		return false
	case hintFull:
		r.Refused(id, true)
		return true
	}
	return r.Full(id) || r.excused(id, h)
}

// excused is for a failure that may be for want of room.
func (r *Room) excused(id string, h hint) bool {
	r.mu.Lock()
	o := r.of(id)
	n := o.excuses
	r.tidy(id, o)
	r.mu.Unlock()
	if n >= excusesInARow {
		return false
	}
	held := r.makeWay(id, 8>>n)
	if held == 0 {
		return false
	}
	r.mu.Lock()
	r.of(id).excuses++
	r.mu.Unlock()
	if h != hintClosed {
		r.learn(id, held, h == hintBye)
	}
	return true
}

// Answered is for a probe that succeeded.
func (r *Room) Answered(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.backends[id]; o != nil {
		o.excuses = 0
	}
}

// hintOf classifies a probe's failure, a Dialer's or discovery's. The cases, the first that
// applies:
//
//   - BYE that says so: full.
//   - another BYE: perhaps.
//   - no TCP connection (refused, no route, no answer): none.
//   - no word in time, at the greeting or the TLS handshake: perhaps.
//   - the connection was closed: perhaps.
//   - all else (a certificate that isn't valid, what isn't IMAP): none.
func hintOf(err error) hint {
	var u *Unavailable
	var bye interface{ Bye() string } // discovery's: the line
	var network *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &u) && u.full(), errors.As(err, &bye) && (strings.Contains(strings.ToUpper(bye.Bye()), "[LIMIT]") || saysFull(bye.Bye())):
		return hintFull
	case errors.Is(err, errBye), bye != nil:
		return hintBye
	case u != nil && u.Stage == StageDial, errors.As(err, &network) && network.Op == "dial":
		return hintNone
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return hintSilent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return hintClosed
	}
	return hintNone
}

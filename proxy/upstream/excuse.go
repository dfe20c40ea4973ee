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

// excusesInARow is how many consecutive failures of probes are excused while warm connections to the backend
// exist: after that a backend that hangs is called down, however many there are. One in eight of them is
// closed at the first failure, one in four at the second, half of them at the third.
const excusesInARow = 3

// hint is what a probe's failure tells about the backend's capacity for another connection.
type hint uint8

const (
	hintNone   hint = iota // the backend can't be used, whether it is full or not
	hintClosed             // it may be full, or have closed the connection for another reason
	hintSilent             // it may be full: Cyrus at maxchild and Dovecot at process_limit are silent
	hintBye                // BYE instead of a greeting
	hintFull               // it says that it is full, so it is alive
)

// Excuses says that a probe's failure isn't evidence against the backend. The cases, of which the first that
// applies decides:
//
//   - a shortage of the proxy itself: yes.
//   - the backend says that it is full: yes.
//   - the backend can't be reached, or behaves unlike a full one (see hintOf): no, however many warm
//     connections there are.
//   - the proxy holds all connections that the backend is known to accept: yes.
//   - there are warm connections to the backend: yes, a few times in a row. Some of them are closed, so that
//     the next probe can connect.
//
// The number of connections that a backend accepts is learnt from BYE and from silence.
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

// excused handles a failure that may be caused by a lack of capacity.
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

// Answered records a probe that succeeded.
func (r *Room) Answered(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.backends[id]; o != nil {
		o.excuses = 0
	}
}

// hintOf classifies a probe's failure, of a Dialer or of discovery. The cases, of which the first that
// applies decides:
//
//   - BYE that says so: full.
//   - another BYE: perhaps.
//   - no TCP connection (refused, no route, no answer): none.
//   - no response in time, at the greeting or the TLS handshake: perhaps.
//   - the connection was closed: perhaps.
//   - all others (an invalid certificate, data that isn't IMAP): none.
func hintOf(err error) hint {
	var u *Unavailable
	var bye interface{ Bye() string } // the line of discovery's error
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

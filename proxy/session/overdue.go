package session

import (
	"errors"
	"os"
	"time"
)

// A proxy that was stopped for longer than its word counts with the others may have lost its users to them: it mustn't serve on its backend
// connections what another proxy serves elsewhere by now (docs/cluster.md). So each chunk is preceded by the question whether it is overdue.
// Where it is, what has come waits: until the agreement trusts this proxy again, or has it close its connections.

const (
	// overdueFor is how long a session waits for either.
	overdueFor = 10 * time.Second
	// overdueLook is how often it looks meanwhile.
	overdueLook = 10 * time.Millisecond
)

// errOverdue is why a parked session has to wait: its proxy can't trust what it knows.
var errOverdue = errors.New("this proxy has to agree with the others first")

// overdue says whether the session's backend connection may belong to another proxy's user by now.
func (s *Session) overdue() bool { return s.env.Overdue != nil && s.env.Overdue() }

// trusted returns true at once, or as soon as the session isn't overdue any more. It returns false where the session ends first, as it does
// after overdueFor, or is asked to rest.
func (s *Session) trusted() bool {
	if !s.overdue() {
		return true
	}
	tick, end := time.NewTicker(overdueLook), time.NewTimer(overdueFor)
	defer tick.Stop()
	defer end.Stop()
	for s.overdue() {
		if s.Reason() != "" || s.pausing() {
			return false
		}
		select {
		case <-tick.C:
		case <-end.C:
			s.evict()
			return false
		}
	}
	return true
}

// goOn is trusted for a reader that has stopped: nil, or the error of an interrupted read.
func (s *Session) goOn() error {
	if s.trusted() {
		return nil
	}
	return os.ErrDeadlineExceeded
}

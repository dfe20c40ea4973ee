package session

import (
	"errors"
	"os"
	"time"
)

// A proxy that was stopped for longer than the other proxies honour its claims may have lost its users to
// them: it must not use its backend connections for users that another proxy serves by now (docs/cluster.md).
// So before each chunk the relay asks whether the proxy is overdue. If it is, the chunk waits until the
// agreement trusts this proxy again or closes its connections.

const (
	// overdueFor is how long a session waits while its proxy is overdue.
	overdueFor = 10 * time.Second
	// overdueLook is the interval at which it checks meanwhile.
	overdueLook = 10 * time.Millisecond
)

// errOverdue is why a parked session has to wait: its proxy can't trust its own state.
var errOverdue = errors.New("this proxy has to agree with the others first")

// overdue says whether the session's user may be served by another proxy by now.
func (s *Session) overdue() bool { return s.env.Overdue != nil && s.env.Overdue() }

// trusted waits until the session isn't overdue and returns true. It returns false if the session ends first,
// as it does after overdueFor unless it recovers, or if the relay is asked to stop.
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

// goOn is trusted for a stopped reader. It returns nil, or the error of an interrupted read.
func (s *Session) goOn() error {
	if s.trusted() {
		return nil
	}
	return os.ErrDeadlineExceeded
}

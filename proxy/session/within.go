package session

import (
	"context"
	"time"
)

// within returns the context of what a session does while it is being parked or resumed. It ends with the
// session or after d.
func (s *Session) within(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	s.park.stop.Store(&cancel)
	if s.Reason() != "" {
		cancel() // abandon may have been called before the Store
	}
	return ctx, func() {
		cancel()
		s.park.stop.CompareAndSwap(&cancel, nil) // the next phase may have begun
	}
}

// abandon cancels the context that within returned.
func (s *Session) abandon() {
	if stop := s.park.stop.Load(); stop != nil {
		(*stop)()
	}
}

// hubWithin bounds the requests to the hub, which come before the session's own connection is touched: if they
// take longer, the session keeps the connection. leaveWithin bounds the commands after that. While one of them
// is outstanding the session can't go back to the relay; a backend that takes so long to answer counts as
// lost.
const (
	hubWithin   = 20 * time.Second
	leaveWithin = 10 * time.Minute
)

package session

import (
	"context"
	"errors"
	"fmt"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
)

// mostUntold is how many messages may be there whose flags the client may not know, if flags are compared because nothing
// else is possible on the session's own connection: the client is told all of these.
const mostUntold = 256

// errAnotherLook says that the session's own connection doesn't show the client's view.
var errAnotherLook = errors.New("the session's own connection doesn't show enough")

// compares says whether the backend has no QRESYNC, so that all flags are compared.
func (s *Session) compares() bool { return s.park.sub.Strategy() == (resync.ByComparison{}).Name() }

// missedOn finds what a client has missed, on its session's own connection, on which its extensions are enabled, and notes it in f. find returns
// its view. at has the mailbox. errAnotherLook: the connection doesn't show it.
func (s *Session) missedOn(ctx context.Context, imap *resync.Client, f *found, heard *heardMeanwhile, find func(view.Seen) (*view.View, error), at *view.View) error {
	const tries = 3
	for try := 1; ; try++ {
		*heard = heardMeanwhile{}
		again, err := s.missesOn(ctx, imap, f, heard, find, at)
		switch _, broken := errors.AsType[*imapclient.Broken](err); {
		case err == nil && !again:
			return nil
		case broken:
			return err
		case try < tries && (again || errors.Is(err, resync.ErrUnsettled)):
		case again:
			return errors.Join(errAnotherLook, resync.ErrUnsettled)
		case resync.NotByOwn(err) || errors.Is(err, view.ErrNotExact) || errors.Is(err, view.ErrGap) || errors.Is(err, errAnotherLook):
			return fmt.Errorf("%w: %w", errAnotherLook, err)
		default:
			return err
		}
	}
}

// missesOn is one try of missedOn. again: the mailbox was changed meanwhile.
func (s *Session) missesOn(ctx context.Context, imap *resync.Client, f *found, heard *heardMeanwhile, find func(view.Seen) (*view.View, error), at *view.View) (again bool, err error) {
	own, err := resync.SeeOwn(ctx, imap, at, s.inFlight.Client.Dialect)
	if err != nil {
		return false, err
	}
	v, err := find(own.Seen)
	if err != nil {
		return false, err
	}
	sel := own.Selected
	if sel.ReadOnly && !v.ReadOnly {
		return false, errReadOnly
	}
	compared := s.compares() && s.inFlight.Client.Dialect == view.Plain
	if s.inFlight.Client.Dialect == view.Plain && !compared && !own.Quiet(v) && v.Known.Unknown(v.UIDs.Intersect(own.Seen.UIDs)) > mostUntold {
		return false, errAnotherLook
	}
	state, err := own.State(ctx, v, compared, s.park.sub.MaxDiffMessages())
	if err != nil {
		return false, err
	}
	d, err := view.Compare(v, state)
	if err != nil {
		return false, err
	}
	if d.Again || !v.After(d).UIDs.Equal(state.UIDs) {
		return true, nil
	}
	f.ready, f.missed, f.uids = true, d.Lists(v, sel.Flags).Lists(v, heard.flags), state.UIDs
	return false, nil
}

// takeFound returns the connection that was found, if the session may go on with it, and forgets it. nil: there is none.
func (s *Session) takeFound() *found {
	f := s.park.found
	if f == nil {
		return nil
	}
	if s.leaving.Load() || s.overdue() || f.conn.Target.ID != s.picked().Backend.ID || !s.picked().Hold() {
		s.dropFound()
		return nil
	}
	s.park.found = nil
	return f
}

// dropFound closes the connection that was found, if the session doesn't go on with it.
func (s *Session) dropFound() {
	if f := s.park.found; f != nil {
		s.park.found = nil
		_ = f.conn.Abort()
		s.picked().Rest()
	}
}

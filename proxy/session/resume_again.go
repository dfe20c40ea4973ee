package session

import (
	"context"
	"errors"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// resumed is what an attempt got from the backend: a connection in the same state as the session's former one
// and, if a mailbox is selected, what the client has missed and the UIDs of the mailbox's messages.
type resumed struct {
	conn   *upstream.Conn
	missed view.Difference
	uids   view.UIDs
}

// again gets a connection, enables the client's extensions, selects the mailbox and finds the difference. It
// sends nothing to the client.
func (s *Session) again(ctx context.Context, trace *telemetry.Resume) (resumed, error) {
	if f := s.takeFound(); f != nil {
		return s.againOn(ctx, f, trace)
	}
	c, enable, enabled, err := s.reconnect(ctx, trace)
	if err != nil {
		return resumed{}, err
	}
	var heard heardMeanwhile
	imap := resync.NewClient(c.Conn, c.Caps, resync.Options{Enabled: enabled, Forward: heard.pass})
	diff, uids, err := s.reselect(ctx, imap, enable, &heard, trace.Steps)
	rerr := imap.Release()
	if err = errors.Join(err, rerr); err != nil {
		_ = c.Abort()
		return resumed{}, err
	}
	return resumed{conn: c, missed: diff, uids: uids}, nil
}

// againOn is again with the connection that was found.
func (s *Session) againOn(ctx context.Context, f *found, trace *telemetry.Resume) (resumed, error) {
	trace.Source = telemetry.SourceLogin
	if f.ready && s.park.leaving != track.Leaves {
		return resumed{conn: f.conn, missed: f.missed, uids: f.uids}, nil
	}
	var heard heardMeanwhile
	imap := f.client(heard.pass)
	diff, uids, err := s.reselectOn(ctx, imap, f, &heard, trace)
	if err = errors.Join(err, imap.Release()); err != nil {
		_ = f.conn.Abort()
		return resumed{}, err
	}
	return resumed{conn: f.conn, missed: diff, uids: uids}, nil
}

// reselectOn is reselect on the connection that was found.
func (s *Session) reselectOn(ctx context.Context, imap *resync.Client, f *found, heard *heardMeanwhile, trace *telemetry.Resume) (view.Difference, view.UIDs, error) {
	if s.park.leaving == track.Leaves {
		return view.Difference{}, view.UIDs{}, imap.Deselect(ctx)
	}
	s.park.mu.Lock()
	v := s.park.view
	s.park.mu.Unlock()
	if v != nil && s.park.leaving == track.Stays && !f.another && !s.inFlight.Client.UIDOnly {
		err := s.missedOn(ctx, imap, f, heard, func(view.Seen) (*view.View, error) { return v, nil }, v)
		if !errors.Is(err, errAnotherLook) {
			trace.Steps.Done(telemetry.StepDifference, s.env.Now(), err)
			return f.missed, f.uids, err
		}
	}
	return s.reselect(ctx, imap, f.enabled, heard, trace.Steps)
}

// reconnect gets a connection at the user's backend that can do what the client was told. enable are the
// extensions that the client has enabled, enabled those of them that are enabled on the connection.
func (s *Session) reconnect(ctx context.Context, trace *telemetry.Resume) (c *upstream.Conn, enable, enabled []string, err error) {
	s.leaving.Store(false) // LetGo meant an earlier connection
	if s.overdue() {       // a pooled connection may not be used either
		return nil, nil, nil, errOverdue
	}
	enable = s.inFlight.Client.Extends()
	c = s.pooledConn()
	if c != nil {
		enabled, trace.Source = enable, telemetry.SourcePool // the pool's key includes them
		trace.Steps.Done(telemetry.StepPool, s.env.Now(), nil)
	} else {
		c, err = s.loginAgain(ctx, upstream.UseSession, trace.Steps)
		trace.Steps.Done(telemetry.StepLogin, s.env.Now(), err)
		if err != nil {
			return nil, nil, nil, err
		}
		trace.Source = telemetry.SourceLogin
		s.env.Queues.resumesAt(c.Target.ID).answers()
	}
	if p := s.picked(); c.Target.ID != p.Backend.ID || !p.Hold() { // the user's other sessions are at another backend, so this one mustn't be here
		_ = c.Abort()
		return nil, nil, nil, errReassigned
	}
	if err := s.able(c); err != nil {
		_ = c.Abort()
		return nil, nil, nil, err
	}
	return c, enable, enabled, nil
}

// reselect enables the client's extensions and selects its mailbox on a new connection, and finds what the
// client has missed. uids are the messages of the mailbox on this connection.
func (s *Session) reselect(ctx context.Context, imap *resync.Client, enable []string, heard *heardMeanwhile, steps *telemetry.Steps) (d view.Difference, uids view.UIDs, err error) {
	t := &s.inFlight.Client
	err = imap.Enable(ctx, enable...)
	steps.Done(telemetry.StepEnable, s.env.Now(), err)
	if err != nil {
		return d, uids, err
	}
	s.park.mu.Lock() // waits for an Apply that has begun; no other follows
	v := s.park.view
	s.park.mu.Unlock()
	if v == nil || s.park.leaving == track.Leaves {
		return d, uids, nil
	}
	for try := 0; ; try++ {
		sel, err := imap.Select(ctx, t.Mailbox.ReadOnly, v.Mailbox, "", nil)
		steps.Done(telemetry.StepSelect, s.env.Now(), err)
		if err != nil {
			return d, uids, err
		}
		switch {
		case s.park.leaving == track.Stays:
		case sel.UIDValidity != v.UIDValidity:
			return d, uids, &view.NotSame{Reason: view.OtherUIDValidity}
		default:
			return d, uids, nil // the client leaves the mailbox, so it isn't told what it missed
		}
		if sel.ReadOnly && !v.ReadOnly {
			return d, uids, errReadOnly
		}
		heard.data = false
		uids, err = imap.SnapshotSelected(ctx)
		steps.Done(telemetry.StepSnapshot, s.env.Now(), err)
		if err != nil {
			return d, uids, err
		}
		if !heard.data && v.ModSeq != 0 && sel.ModSeq == v.ModSeq && sel.UIDValidity == v.UIDValidity && uids.Equal(v.UIDs) && v.Told == nil {
			return view.Difference{}.Lists(v, sel.Flags).Lists(v, heard.flags), uids, nil // nothing has changed
		}
		state, err := s.park.sub.Resync(ctx, v)
		if err == nil {
			d, err = view.Compare(v, state)
		}
		steps.Done(telemetry.StepDifference, s.env.Now(), err)
		if err != nil {
			return d, uids, err
		}
		if !d.Again && v.After(d).UIDs.Equal(uids) {
			return d.Lists(v, sel.Flags).Lists(v, heard.flags), uids, nil
		}
		if try == 2 {
			return d, uids, resync.ErrUnsettled
		}
	}
}

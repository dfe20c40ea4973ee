package proxy

import (
	"context"
	"errors"
	"time"

	"imapproxy/proxy/park"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// parkWithin bounds parking: a backend that takes longer keeps its session.
const parkWithin = 20 * time.Second

// parkAgain is how long a session that couldn't be parked is left alone.
const parkAgain = 2 * time.Minute

// toParked takes the session connection away: parked at the end, or attached as
// before. While it runs the client's bytes wait.
func (s *Session) toParked(how way) {
	s.transition(Parking)
	ctx, cancel := context.WithTimeout(context.Background(), parkWithin)
	defer cancel()
	view, err := s.leave(ctx, how)
	switch {
	case s.reason() != "":
		s.finish()
	case err != nil:
		why := "failed"
		s.park.doubt.Store(&why)
		s.log.Debug("not parked", "error", err)
		s.srv.tel.Park(why, s.strategy())
		s.park.notTill.Store(s.srv.now().Add(parkAgain).UnixNano())
		s.park.asked.Store(false)
		s.transition(Attached)
		go s.relay()
	default:
		s.park.mu.Lock()
		s.park.view, s.park.state, s.park.told, s.park.idle = view, nil, s.srv.now(), how == wayIdle
		s.park.mu.Unlock()
		s.transition(Parked)
		s.srv.tel.Park("parked", s.strategy())
		if s.park.sub != nil {
			s.park.sub.Join(s.member())
		}
		go s.parked()
	}
}

// errNoModSeqs: the client counts mod-sequences, which a comparison can't give.
var errNoModSeqs = errors.New("a client of CONDSTORE on a backend without QRESYNC")

// leave learns the view and gives the session connection to the pool. After an
// error the session is as it was, unless it has an end.
func (s *Session) leave(ctx context.Context, how way) (*park.View, error) {
	t := &s.flight.told
	b := s.backend.Load()
	var table *park.FlagTable
	if how != wayUnselect {
		if err := s.subscribe(ctx, t.box.name); err != nil {
			return nil, err
		}
		if s.park.sub.Strategy() == (park.ByComparison{}).Name() {
			if t.dialect != park.Plain {
				return nil, errNoModSeqs
			}
			var err error
			if table, err = s.park.sub.Table(ctx); err != nil {
				return nil, err
			}
		}
	} else {
		s.unsubscribe()
	}
	var bound uint64
	if s.park.sub != nil {
		bound = s.park.sub.ModSeq() // of before the snapshot: a resync for others may move it at any time
	}
	opt := park.TalkOptions{Selected: s.flight.selected, ReadOnly: t.box.readOnly, Told: t.box.exists, Enabled: t.enabled, Pass: s.passOn}
	if how == wayIdle {
		opt.Taken = string(s.flight.open[0].tag)
	}
	b.Caps = s.caps.list // the relay had no use for a copy of its own
	talk := park.NewTalk(b, opt)
	// The point of no return: from here on the backend isn't in IDLE any more.
	view, err := s.snapshot(ctx, talk, how)
	c, rerr := talk.Release()
	var broken *park.Broken
	switch {
	case errors.As(err, &broken) || rerr != nil:
		s.log.Warn("backend lost while the session was being parked", "error", errors.Join(err, rerr))
		s.over(ReasonBackendLost)
		return nil, errors.Join(err, rerr)
	case err != nil:
		s.backToIdle(c, how)
		return nil, err
	}
	s.backend.Store(nil)
	s.set.Park.Pool.Give(s.poolKey(upstream.UseSession), c, upstream.Condition{Selected: talk.Selected()})
	if view != nil {
		if view.ModSeq == 0 {
			view.ModSeq = bound
		}
		view.Told = table
	}
	return view, nil
}

// snapshot ends IDLE, learns what the client counts, and deselects.
func (s *Session) snapshot(ctx context.Context, talk *park.Talk, how way) (*park.View, error) {
	if how == wayUnselect {
		return nil, nil
	}
	t := &s.flight.told
	var uids park.UIDs
	var err error
	if how == wayIdle {
		if _, err = talk.EndIdle(ctx, string(s.flight.open[0].tag)); err != nil {
			return nil, err
		}
		uids, err = talk.Snapshot(ctx)
	} else {
		uids, err = talk.SnapshotByFetch(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := talk.Deselect(ctx); err != nil && !errors.Is(err, park.ErrCannotDeselect) {
		return nil, err
	}
	return &park.View{
		Mailbox: t.box.name, ReadOnly: t.box.readOnly, UIDValidity: t.box.validity, UIDNext: max(t.box.next, uids.Last()+1),
		UIDs: uids, Flags: t.box.flags, PermanentFlags: t.box.permanent, ModSeq: t.box.modSeq,
	}, nil
}

// passOn gives the client what came with hidden commands, as any response.
func (s *Session) passOn(response []byte) {
	s.flight.untagged(wire.ParseResponseHead(response), true)
	s.down.write(response, true)
}

// backToIdle has the backend idle again for a session that stays attached after
// all, or is again. Its "+" isn't the client's to see: he has had one. Where that
// fails, the session ends.
func (s *Session) backToIdle(c *upstream.Conn, how way) {
	if how != wayIdle {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), parkWithin)
	defer cancel()
	t := &s.flight.told
	talk := park.NewTalk(c, park.TalkOptions{Selected: true, ReadOnly: t.box.readOnly, Told: t.box.exists, Enabled: t.enabled, Pass: s.passOn})
	err := talk.BeginIdle(ctx, s.flight.idleTag())
	if _, broken := talk.Release(); broken != nil || err != nil {
		s.log.Warn("the backend doesn't idle again", "error", err)
		s.over(ReasonBackendLost)
	}
}

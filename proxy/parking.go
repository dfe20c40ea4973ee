package proxy

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"imapproxy/proxy/park"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// parkWithin bounds parking: a backend that takes longer keeps its session.
const parkWithin = 20 * time.Second

// parkAgain is how long a session that couldn't be parked is left alone.
const parkAgain = 2 * time.Minute

// ParkOptions say when sessions are parked. The zero value parks none.
type ParkOptions struct {
	Hub        *park.Hub      // nil: nobody is parked
	Pool       *upstream.Pool // of warm connections; must be there with Hub
	Linger     time.Duration  // in IDLE, since the client's last word
	QuietAfter time.Duration  // outside IDLE; 0: never
	Keepalive  time.Duration  // between "Still here" lines to parked clients in IDLE; 0: 2 min
	// ResumeConcurrency bounds resumes at a time per backend; 0: 32. ResumeRate
	// bounds how many begin in a second; 0: no limit.
	ResumeConcurrency, ResumeRate int
}

// parkState is what a session knows of its parking.
type parkState struct {
	asked   atomic.Bool            // the relay is to pause at the next boundary, or there is none until it begins anew
	owing   atomic.Bool            // no relay runs, but owing, which knows no pause
	lost    atomic.Bool            // there are no hints any more
	doubt   atomic.Pointer[string] // what keeps it from being parked, for people
	refused atomic.Int64           // the client's last word before a refusal that was counted
	notTill atomic.Int64           // after a park that came to nothing, Unix ns

	// The phase's own, kept over resumes.
	sub *park.Subscription
	box string // the mailbox that sub is for
	// verb is what the client said that needs a backend; owed are the numbers that
	// it and its backend count differently then.
	verb wire.Verb
	owed *park.Numbers
	star uint32 // what that command's "*" means; 0: what the backend takes it for
	// owedFlags are told behind what is owed: they show mod-sequences beyond the client's bound.
	owedFlags []park.FlagChange
	bound     uint64 // the view's mod-sequence then

	// mu is held by who tells a parked client something, for as long as that
	// takes. Lock order: mu, then out's.
	mu    sync.Mutex
	view  *park.View  // nil: nothing selected, or not parked
	state *park.State // heard of and not told, since the client isn't in IDLE
	idle  bool        // the client is in IDLE
	told  time.Time   // when the client last heard anything
}

// backendCaps is one capability list, shared by all sessions that have it.
type backendCaps struct{ list wire.Caps }

// capsOf returns the one copy of a list.
func (s *Server) capsOf(c wire.Caps) *backendCaps {
	key := c.String()
	if v, ok := s.caps.Load(key); ok {
		return v.(*backendCaps)
	}
	v, _ := s.caps.LoadOrStore(strings.Clone(key), &backendCaps{list: slices.Clone(c)})
	return v.(*backendCaps)
}

// way is how a session can be parked.
type way uint8

const (
	wayNone     way = iota
	wayIdle         // in IDLE
	waySelected     // quiet, with a mailbox selected
	wayUnselect     // quiet, with none
)

// canPark says whether and how a session can be parked, and if not why. The
// cases, each a reason to stay attached:
//   - a command that isn't IDLE is under way, or a literal, or the session ends;
//   - anything unknown was said that might be state: told's doubts;
//   - the backend shows no UIDVALIDITY, or UIDs that don't last;
//   - outside IDLE: a client that works by message numbers, whose next command
//     may be STORE 4, and one that counts mod-sequences.
//
// It looks at flight alone, which the caller has to itself.
func (f *flight) canPark() (way, string) {
	t := &f.told
	switch {
	case f.logout || f.bye || f.over:
		return wayNone, "ending"
	case len(f.open) > 1 || len(f.open) == 1 && f.idle != idleOn || f.literal != agreeNone || f.prompted:
		return wayNone, "command"
	case t.doubt != doubtNone:
		return wayNone, t.doubt
	case !f.selected && f.idle == idleOn:
		return wayNone, "idle_unselected"
	case !f.selected:
		return wayUnselect, ""
	case t.box.doubt != doubtNone:
		return wayNone, t.box.doubt
	case t.box.name == "" || t.box.validity == 0:
		return wayNone, doubtMailbox
	case f.idle == idleOn:
		return wayIdle, ""
	case t.box.byNumber:
		return wayNone, doubtByNumber
	case t.dialect != park.Plain:
		return wayNone, doubtModSeq
	}
	return waySelected, ""
}

// askToPark has the relay pause, when the session has been idle for long enough.
// It is called by the sweep.
func (s *Session) askToPark(now time.Time) {
	o := &s.set.Park
	if o.Hub == nil || Attachment(s.attachment.Load()) != Attached || s.park.asked.Load() || s.park.owing.Load() || s.halfClosed.Load() {
		return
	}
	s.flight.mu.Lock()
	how, why := s.flight.canPark()
	s.flight.mu.Unlock()
	s.park.doubt.Store(&why)
	after := o.Linger
	if how != wayIdle {
		after = o.QuietAfter
	}
	heard := time.Unix(0, s.lastHeard.Load())
	if how == wayNone && now.Sub(heard) >= o.Linger && s.park.refused.Swap(heard.UnixNano()) != heard.UnixNano() {
		s.srv.tel.ParkRefused(why)
	}
	if how == wayNone || how != wayIdle && after == 0 || now.Sub(heard) < after || now.UnixNano() < s.park.notTill.Load() {
		return
	}
	s.park.refused.Store(0)
	b := s.backend.Load()
	if b == nil || !s.park.asked.CompareAndSwap(false, true) {
		return
	}
	_ = b.SetReadDeadline(longAgo())
	_ = s.client.SetReadDeadline(longAgo())
}

// isPause says whether a Pump returned since the session is to be parked.
func (s *Session) isPause(err error) bool {
	return s.park.asked.Load() && s.reason() == "" && errors.Is(err, os.ErrDeadlineExceeded)
}

// paused decides, with both readers at rest, between parking and going on.
func (s *Session) paused() {
	_ = s.client.SetReadDeadline(time.Time{})
	_ = s.backend.Load().SetReadDeadline(time.Time{})
	if s.reason() != "" { // and its deadlines may just have been taken away
		s.finish()
		return
	}
	if s.up.err != nil { // a write to the backend has failed: it may have last words
		_ = s.backend.Load().SetReadDeadline(s.srv.now().Add(lingerFor))
		s.fromBackend()
		s.over(ReasonBackendLost) // unless it has an end already
		s.finish()
		return
	}
	how, why := s.flight.canPark()
	if !s.clean() {
		how, why = wayNone, "command"
	}
	s.park.doubt.Store(&why)
	if how == wayNone {
		s.park.asked.Store(false)
		go s.relay() // a fresh goroutine: this one's stack has grown
		return
	}
	go s.toParked(how)
}

// clean says that both streams stand between two units, with nothing kept.
func (s *Session) clean() bool {
	return s.up.scan.AtStart() && s.up.err == nil && s.up.refused == nil && !s.up.awaiting && len(s.client.Kept()) == 0 &&
		s.down.scan.AtStart() && s.down.err == nil && s.down.broken == nil && !s.down.rewrite && len(s.backend.Load().Kept()) == 0 &&
		s.out.atBoundary() && !s.halfClosed.Load()
}

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

// strategy is how the session's mailbox is resynced, for metrics.
func (s *Session) strategy() string {
	if s.park.sub == nil {
		return "none"
	}
	return s.park.sub.Strategy()
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

// subscribe sees to hints for a mailbox; a session that was resumed keeps its
// subscription.
func (s *Session) subscribe(ctx context.Context, mailbox string) error {
	if s.park.sub != nil && s.park.box == mailbox {
		if s.park.sub.Again(ctx) == nil {
			return nil
		}
	}
	s.unsubscribe()
	sub, err := s.set.Park.Hub.Subscribe(ctx, park.Account{
		User: s.user, Backend: s.target.ID, Caps: s.caps.list, ModSeq: s.flight.told.box.modSeq,
		Login: s.watchLogin,
		Give: func(c *upstream.Conn, enabled []string) {
			s.set.Park.Pool.Give(s.poolKey(upstream.UseWatch), c, upstream.Condition{})
		},
	}, mailbox)
	if err != nil {
		return err
	}
	s.park.sub, s.park.box = sub, mailbox
	return nil
}

func (s *Session) unsubscribe() {
	if s.park.sub != nil {
		s.park.sub.Close()
		s.park.sub = nil
	}
}

// watchLogin gives the hub a connection for this user.
func (s *Session) watchLogin(ctx context.Context) (*upstream.Conn, error) {
	if c := s.set.Park.Pool.Take(s.poolKey(upstream.UseWatch), upstream.Verified); c != nil {
		return c, nil
	}
	c, err := s.set.Dialer.Login(ctx, s.target, s.auth, s.clientInfo())
	if err != nil {
		return nil, err
	}
	return c.HandOver(s.srv.tel, "watch"), nil
}

// poolKey is which warm connections are this session's.
func (s *Session) poolKey(use upstream.Use) upstream.PoolKey {
	dialect := "watch"
	if use == upstream.UseSession {
		names := slices.Sorted(slices.Values(s.flight.told.enabled))
		dialect = strings.Join(names, " ")
		if s.flight.told.dialect == park.CondStore && !slices.Contains(names, "CONDSTORE") {
			dialect += " +CONDSTORE"
		}
	}
	return s.set.Park.Pool.Key(s.user, s.target, s.auth, use, dialect)
}

func (s *Session) clientInfo() upstream.Client {
	return upstream.Client{Addr: s.addr, LocalAddr: s.local, SessionID: s.id, ProxyTTL: s.proxyTTL}
}

// hint tells the hub of a command that may have changed a mailbox, before its
// answer goes out: the user's own change on one connection is seen by NOOP on a
// parked other.
func (s *Session) hint(v wire.Verb, status wire.Status) {
	hub := s.set.Park.Hub
	if hub == nil || !changes(v) || !hub.Wanted(s.user) {
		return
	}
	hub.Hint(park.Hint{User: s.user, Source: park.HintCommand})
}

// changes says whether a command may change a mailbox, whatever its answer: NO
// to a MOVE may come after half of it.
func changes(v wire.Verb) bool {
	switch v {
	case wire.Append, wire.Close, wire.Copy, wire.Create, wire.Delete, wire.Expunge, wire.Move, wire.Rename, wire.Replace, wire.Store,
		wire.UIDCopy, wire.UIDExpunge, wire.UIDMove, wire.UIDReplace, wire.UIDStore, wire.SetACL, wire.DeleteACL, wire.Other:
		return true
	}
	return false
}

package session

import (
	"cmp"
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// A session whose backend connection is lost gets another one (docs/failures.md): what its client counts is found by what it
// was told (view.Tally) and by what the backend shows now, and from then on it is a resume. The commands that were under way are put in front
// of what the client says next, or are answered NO where they may have been done.

// Pauses between attempts to reach a backend that a connection was lost to. A restart takes less than a second.
const (
	recoverPause    = 100 * time.Millisecond
	maxRecoverPause = 2 * time.Second
)

// maxLosses is how often in a row the same commands may be under way when a connection is lost: one of them may be the cause.
const maxLosses = 2

// losses counts how often in a row a session's connection was lost under the same commands.
type losses struct {
	since int64 // how many commands were answered by then
	n     uint8
}

// errLost: the backend connection was lost while the session was being parked.
var errLost = errors.New("the backend connection is lost")

// errNotFollowed: the messages that the client counts can't be found.
var errNotFollowed = errors.New("the view can't be found")

// survives says whether a session goes on when its backend connection is lost now: the relay's readers are on their way
// to rest, and say the rest (paused).
func (s *Session) survives() bool {
	return s.mayPark() && s.cred.there() && !s.halfClosed.Load() && s.Reason() == "" && s.out.atBoundary() && s.inFlight.CanSurvive() == track.BlockerNone
}

// lose has the relay's readers come to rest after the backend connection was lost. It is called by the one that has found it.
func (s *Session) lose() {
	s.inFlight.Lose()
	s.Signal(sigLost)
}

// cut has the session's owner take its backend connection for lost. It says whether the owner does.
func (s *Session) cut() bool {
	s.inFlight.Lose()
	if !s.Signal(sigLost) {
		return false
	}
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	s.interruptBackendLocked()
	return true
}

// endSeen says whether the error of a read means that the backend has ended the connection.
func endSeen(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// cutBetweenUnits says that the connection was lost between two units, in both directions.
func (s *Session) cutBetweenUnits() bool {
	return s.up.scan.AtStart() && s.up.refused == nil && !s.up.awaiting && s.down.err == nil && s.down.broken == nil && !s.down.rewrite && s.survives()
}

// lost decides, with both readers at rest and the connection closed, what follows the relay of a session that has lost it.
func (s *Session) lost() phase {
	_ = s.backend.Load().Abort()
	if !s.cutBetweenUnits() {
		s.Terminate(s.lostBackend())
		return phaseEnd
	}
	done := s.commands.Load()
	cut := s.inFlight.Cut(s.down.told(), s.down.ended)
	r := &s.park.losses
	if r.since != done || len(cut.Again)+len(cut.Refused) == 0 {
		r.since, r.n = done, 0
	}
	if r.n++; r.n > maxLosses {
		s.log().Warn("the backend connection is lost again and again under the same commands")
		s.Terminate(ReasonBackendLost)
		return phaseEnd
	}
	s.client.Unhold()
	if len(cut.Refused) > 0 && (len(s.client.PutBack()) > 0 || s.client.Arrived()) {
		s.Terminate(ReasonBackendLost) // what has come was said before a refusal could be read, and may rely on it
		return phaseEnd
	}
	s.control.mu.Lock()
	s.backend.Store(nil)
	s.control.mu.Unlock()
	s.relaying = nil
	s.picked().Rest()
	s.client.Unread(cut.Again)
	if s.answerCut(cut) != nil {
		s.Terminate(ReasonClientLost)
		return phaseEnd
	}
	s.park.cut = cut
	return phaseRecover
}

// answerCut tells what is known at once of the commands that were under way.
func (s *Session) answerCut(c track.Cut) error {
	for _, tag := range c.Refused {
		line := tag + " NO [UNAVAILABLE] The mail server was lost during this command, which may have been done\r\n"
		if err := s.say([]byte(line)); err != nil {
			return err
		}
		s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.NO}, s.env.Now())
	}
	for _, tag := range c.Done {
		if err := s.say([]byte(tag + " OK Idle completed\r\n")); err != nil {
			return err
		}
		s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.OK}, s.env.Now())
	}
	switch {
	case c.Closed:
		return s.say([]byte(closed))
	case c.Prompt:
		return s.say([]byte("+ idling\r\n"))
	}
	return nil
}

// recover finds what the client of a lost connection counts. A client in IDLE is parked then, others resume.
func (s *Session) recover() phase {
	began := s.env.Now()
	end := time.Now().Add(cmp.Or(s.settings().Park.ResumeWithin, DefaultResumeWithin))
	t := telemetry.Recovery{Session: s.id, Login: s.trace(), User: s.user, Backend: s.picked().Backend.Shown(), Start: began}
	cut := s.park.cut
	s.park.cut = track.Cut{}
	var v *view.View
	var err error
	heard := began
	for pause, moves := recoverPause, 0; ; pause = min(2*pause, maxRecoverPause) {
		t.Attempts++
		ctx, cancel := s.within(time.Until(end)) // LetGo ends an attempt, and not the recovery
		v, err = s.foundView(ctx)
		cancel()
		if err != nil && s.Reason() == "" && s.elsewhere(err) {
			ctx, cancel = s.within(time.Until(end))
			move := s.repickAfter(ctx, err)
			cancel()
			if errors.Is(move, errReassigned) {
				s.Terminate(ReasonMoved)
			}
			if moves++; move == nil && s.Reason() == "" && moves < maxBackends && time.Now().Before(end) {
				s.unsubscribe()
				continue
			}
		}
		if err == nil || s.Reason() != "" || !time.Now().Before(end) || hopelessView(err) {
			break
		}
		if s.failOver(began) {
			s.unsubscribe()
			continue
		}
		if len(s.client.PutBack()) > 0 {
			s.stillHere(&heard)
		}
		ctx, cancel = s.within(time.Until(end))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		cancel()
	}
	t.Backend = s.picked().Backend.Shown()
	switch {
	case s.Reason() != "":
	case hopelessView(err):
		s.log().Warn("what the client counts can't be found after the backend connection was lost", "error", err)
		s.Terminate(endOfLoss(err))
	case err != nil:
		s.log().Warn("the backend can't be reached again", "error", err)
		s.Terminate(endOf(err))
	}
	t.End, t.Err, t.Outcome = s.env.Now(), err, "ok"
	if r := s.Reason(); r != "" {
		t.Outcome = string(r)
		s.env.Telemetry.Recovery(t)
		return phaseEnd
	}
	s.env.Telemetry.Recovery(t)
	idle := cut.Idle != ""
	s.park.mu.Lock()
	s.park.times++
	s.park.view, s.park.state, s.park.lastTold, s.park.idle = v, nil, t.End.UnixNano(), idle
	s.park.mu.Unlock()
	s.inFlight.Trim()
	if idle && v != nil {
		s.park.mode = track.ModeIdle
		s.park.sub.Doubt() // what has happened meanwhile is told by the first round
		return phaseParked
	}
	s.comesBack(s.client.PutBack())
	return phaseResume
}

// stillEvery is how often a client whose command waits for a backend hears of the proxy: mbsync gives up after 20 s of silence, FairEmail after 40,
// Thunderbird for Android after 60.
const stillEvery = 5 * time.Second

// stillHere tells a client whose command waits that the proxy is there, where it has heard nothing for stillEvery. A line may stand there: nothing of a
// response has been told.
func (s *Session) stillHere(heard *time.Time) {
	if now := s.env.Now(); now.Sub(*heard) >= stillEvery {
		*heard = now
		_ = s.say([]byte("* OK Still here, waiting for the mail server\r\n")) // where it fails the session ends
	}
}

// comesBack says for what a session is resumed: the command that comes first of what the client has said, if any.
func (s *Session) comesBack(said []byte) {
	line := wire.FirstLine(said)
	s.park.hasCommand, s.park.verb, s.park.leaving, s.park.cause = len(line) > 0, wire.Other, track.Stays, telemetry.WakeLost
	if len(line) == 0 {
		return
	}
	s.park.verb = wire.ParseCommandHead(line).Verb
	if s.park.sub != nil {
		s.park.leaving = track.LeavingBy(line, &s.inFlight.Client, s.caps.list)
	}
	if s.park.leaving == track.Leaves && !s.park.verb.Rule().Selects {
		s.park.leaving = track.LeavesSelected // it goes to the backend, which answers it as long as the mailbox is selected
	}
}

// foundView makes one attempt to find what the client counts. nil: no mailbox is selected.
func (s *Session) foundView(ctx context.Context) (*view.View, error) {
	if err := s.recheckAtResume(ctx); err != nil {
		return nil, err
	}
	at := s.inFlight.Selection()
	if at == nil {
		s.unsubscribe()
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, hubWithin)
	defer cancel()
	if err := s.subscribe(ctx, at.Mailbox); err != nil {
		return nil, err
	}
	seen, err := s.park.sub.See(ctx, at)
	if err != nil {
		return nil, err
	}
	v, err := s.inFlight.Find(seen)
	if err != nil {
		return nil, err
	}
	switch compared := s.park.sub.Strategy() == (resync.ByComparison{}).Name(); {
	case compared && s.inFlight.Client.Dialect != view.Plain:
		return nil, errNotFollowed
	case !compared && v.ModSeq == 0:
		v.ModSeq = 1 // all flags that were ever set are told
	case compared:
		v.Told, v.Known = view.NothingTold(), nil
	}
	return v, nil
}

// hopelessView says whether another attempt to find the view would end so, too.
func hopelessView(err error) bool {
	for _, e := range []error{errNotFollowed, view.ErrNotExact, view.ErrNotFollowed, view.ErrNoUIDNext} {
		if errors.Is(err, e) {
			return true
		}
	}
	return err != nil && final(err)
}

// endOfLoss is why a session ends whose view can't be found.
func endOfLoss(err error) Reason {
	var other *view.NotSame
	var gone *imapclient.Refusal
	var refused *upstream.Refused
	var out *lockedOut
	if errors.As(err, &other) || errors.As(err, &gone) || errors.As(err, &refused) || errors.As(err, &out) {
		return endOf(err)
	}
	return ReasonViewLost
}

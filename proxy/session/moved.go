package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/routing"
)

// A session without a backend connection follows its user to another backend: nothing of it is at the old one. The strategies
// of a resync judge by UIDVALIDITY and mod-sequences whether the mailbox there is the same.

// errReassigned means that the user is at another backend than the session.
var errReassigned = errors.New("the user was sent to another backend")

// lacks is the error of a backend that can't do what the client was told when it logged in.
type lacks struct {
	backend    string
	capability string
}

func (l *lacks) Error() string {
	return fmt.Sprintf("the user is at backend %s by now, which lacks %s", l.backend, l.capability)
}

// reassigned says whether the user has been sent to another backend.
func (s *Session) reassigned() bool {
	select {
	case <-s.picked().Void():
		return true
	default:
		return false
	}
}

// repick has the session follow its user: to a backend, or with "" to where the user's other sessions are. It is for a session without a
// backend connection, and may be called by several goroutines at a time; one that comes late does nothing.
func (s *Session) repick(backend string) error {
	old := s.picked()
	if !s.settings().Router.Shares() {
		return errReassigned // the mail of before isn't there
	}
	fresh, err := old.Follow(backend)
	switch {
	case err != nil && s.picked() != old:
		return nil
	case err != nil:
		return err
	}
	s.pick.Store(fresh) // a pick is followed once, so nothing else is stored meanwhile
	if s.Reason() != "" {
		fresh.Release() // account may have released the one before
	}
	s.log().Debug("the session follows its user", "from", old.Backend.Shown())
	return nil
}

// noticeMove sees to a session whose user has been sent to another backend. The cases:
//
//	it has a connection             ReasonMoved: two backends mustn't serve a user
//	it is on its way to one, or from  its phase sees to it, or the next sweep
//	parked                          it follows, and so do its user's watches; or ReasonMoved, where it can't
func (s *Session) noticeMove() {
	if !s.reassigned() {
		return
	}
	switch Attachment(s.attachment.Load()) {
	case Parked:
		if err := s.repick(""); errors.Is(err, errReassigned) {
			s.Terminate(ReasonMoved)
		} else if err == nil && s.set.Park.Hub != nil {
			s.set.Park.Hub.Follow(s.user, s.picked().Backend.ID)
		}
	case Attached, CatchingUp:
		s.Terminate(ReasonMoved)
	}
}

// elsewhere says whether an attempt to get a connection has failed since the user is at another backend, or is being moved.
func (s *Session) elsewhere(err error) bool {
	_, ok := errors.AsType[*upstream.Elsewhere](err)
	return ok || errors.Is(err, errReassigned) || s.reassigned()
}

// repickAfter has the session follow its user after an attempt for which elsewhere says yes. Where the user is being moved, and ctx isn't nil, it waits
// until the proxies agree on where the user is.
func (s *Session) repickAfter(ctx context.Context, err error) error {
	e, ok := errors.AsType[*upstream.Elsewhere](err)
	switch {
	case !ok:
		return s.repick("")
	case e.Backend != "":
		return s.repick(e.Backend)
	case ctx == nil || !s.settings().Router.Shares():
		return err
	}
	backend, err := s.settings().Router.Agreed(ctx, s.user)
	if err != nil || backend == s.picked().Backend.ID && !s.reassigned() {
		return err
	}
	return s.repick(backend)
}

// elsewhereAfter is how long a backend that isn't called down isn't reached before its sessions go on elsewhere: a restart takes less.
const elsewhereAfter = 15 * time.Second

// failOver has a session without a connection go where a login of its user would go, where its backend has been out of reach since then. It says
// whether the session has moved.
func (s *Session) failOver(since time.Time) bool {
	old := s.picked()
	if old.Current().State != routing.Down && s.env.Now().Sub(since) < elsewhereAfter {
		return false
	}
	to, err := old.FailsOver()
	return err == nil && s.repick(to) == nil
}

// able says whether a connection can do all that the client was told. It is asked where the session has followed its user.
func (s *Session) able(c *upstream.Conn) error {
	if s.picked().Why != routing.ByMove {
		return nil
	}
	if missing := missing(c.Caps, s.caps.list); missing != "" {
		return &lacks{backend: s.picked().Backend.Shown(), capability: missing}
	}
	return nil
}

// missing is a capability that a client was told of and the backend doesn't have, "" none.
func missing(has, told wire.Caps) string {
	for _, name := range told {
		if !hidden(name) && !has.Has(name) {
			return name
		}
	}
	return ""
}

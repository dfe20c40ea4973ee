package session

import (
	"context"
	"errors"

	"imapproxy/proxy/park"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// subscribe has the hub watch a mailbox for the session. A resumed session keeps its subscription.
func (s *Session) subscribe(ctx context.Context, mailbox string) error {
	if s.park.sub != nil && s.park.sub.Mailbox() == mailbox && !s.lacksBound() {
		if s.park.sub.Again(ctx) == nil {
			return nil
		}
	}
	s.unsubscribe()
	sub, err := s.set.Park.Hub.Subscribe(ctx, s.hubAccount(), mailbox)
	if err != nil {
		return err
	}
	s.park.sub = sub
	return nil
}

// lacksBound says whether neither the session's SELECT nor the subscription has a mod-sequence from which on the client has to be told flags, although
// the resync needs one. The subscription was made when an earlier SELECT had shown one, and no look has succeeded since; Subscribe finds one.
func (s *Session) lacksBound() bool {
	return s.inFlight.Client.Mailbox.ModSeq == 0 && s.park.sub.ModSeq() == 0 && s.park.sub.Strategy() == (resync.ByQResync{}).Name()
}

// subscribeLater is subscribe for a session that leaves its backend: no new connection is made there.
func (s *Session) subscribeLater(mailbox string) error {
	if s.park.sub != nil && s.park.sub.Mailbox() == mailbox {
		if s.park.sub.Later() == nil {
			return nil
		}
	}
	s.unsubscribe()
	sub, err := s.set.Park.Hub.SubscribeLater(s.hubAccount(), mailbox)
	s.park.sub = sub
	return err
}

// hubAccount returns what the hub needs to act for the session's user.
func (s *Session) hubAccount() park.Account {
	return park.Account{
		User: s.user, Backend: s.picked().Backend.ID, BackendName: s.picked().Backend.Shown(), Caps: s.caps.Load().list, ModSeq: s.inFlight.Client.Mailbox.ModSeq,
		Login: s.watchLogin,
		Give: func(c *upstream.Conn, enabled []string) {
			if !s.cred.there() { // without the credential there is no key for the pool either
				_ = c.Close()
				return
			}
			s.set.Park.Pool.Give(s.poolKey(upstream.UseWatch), c, upstream.Condition{})
		},
	}
}

func (s *Session) unsubscribe() {
	if s.park.sub != nil {
		s.park.sub.Close()
		s.park.sub = nil
	}
}

// watchLogin returns a connection for the hub, at the user's current backend.
func (s *Session) watchLogin(ctx context.Context, steps *telemetry.Steps) (*upstream.Conn, error) {
	if s.pausedForWatch() {
		return nil, &upstream.Paused{Backend: s.picked().Backend.Shown()}
	}
	for moves := 0; ; moves++ {
		c, err := s.watchConn(ctx, steps)
		elsewhere := s.elsewhere(err)
		switch {
		case err == nil && elsewhere: // two backends mustn't serve one user
			_ = c.Abort()
			err = errReassigned
		case err == nil:
			if err = s.able(c); err == nil {
				return c, nil
			}
			_ = c.Abort()
			return nil, errors.Join(resync.ErrNotEnabled, err) // each session checks on its own what its client was told
		}
		if !elsewhere || moves == maxBackends {
			return nil, err
		}
		if move := s.repickNow(err); move != nil { // the hub tries again later: it must not hold its slot while it waits
			return nil, errors.Join(err, move)
		}
	}
}

// watchConn returns a connection for the hub, at the backend that the session has picked.
func (s *Session) watchConn(ctx context.Context, steps *telemetry.Steps) (*upstream.Conn, error) {
	if c := s.set.Park.Pool.Take(s.poolKey(upstream.UseWatch), upstream.Verified, s.addr.Addr()); c != nil {
		return c, nil
	}
	c, err := s.loginAgain(ctx, upstream.UseWatch, steps)
	if err != nil {
		return nil, err
	}
	return c.HandOver(s.env.Telemetry, "watch"), nil
}

// unpark leaves the hub, so that the session isn't sent changes any more.
func (s *Session) unpark() {
	if s.park.sub != nil {
		s.park.sub.Leave()
	}
}

package proxy

import (
	"context"
	"slices"
	"strings"

	"imapproxy/proxy/park"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

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
		User: s.user, Backend: s.pick.Backend.ID, Caps: s.caps.list, ModSeq: s.flight.told.box.modSeq,
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
	if c := s.set.Park.Pool.Take(s.poolKey(upstream.UseWatch), upstream.Verified, s.addr.Addr()); c != nil {
		return c, nil
	}
	c, err := s.loginAgain(ctx)
	if err != nil {
		return nil, err
	}
	return c.HandOver(s.srv.tel, "watch"), nil
}

// loginAgain makes another connection for this user. If he isn't let in, what he has left in
// the pool lets nobody in either, or makes room for the next attempt.
func (s *Session) loginAgain(ctx context.Context) (*upstream.Conn, error) {
	c, err := s.settings().Dialer.Login(ctx, s.target(), s.auth(), s.clientInfo())
	if err != nil {
		s.set.Park.refused(s.poolKey(upstream.UseWatch), s.user, err) // whatever their use
	}
	return c, err
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
	return s.set.Park.Pool.Key(s.user, s.target(), s.auth(), use, dialect)
}

func (s *Session) clientInfo() upstream.Client {
	return upstream.Client{Addr: s.addr, LocalAddr: s.local, SessionID: s.id, ProxyTTL: s.proxyTTL}
}

// hint tells the hub of a command that may have changed a mailbox, before its
// answer goes out: the user's own change on one connection is seen by NOOP on a
// parked other.
func (s *Session) hint(v wire.Verb, status wire.Status) {
	hub := s.set.Park.Hub
	if hub == nil || !v.Rule().Changes || !hub.Wanted(s.user) {
		return
	}
	hub.Hint(park.Hint{User: s.user, Source: park.HintCommand})
}

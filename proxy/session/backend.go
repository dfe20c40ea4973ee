package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

func (s *Session) clientInfo() upstream.Client {
	return upstream.Client{Addr: s.addr, LocalAddr: s.local, SessionID: s.id, ProxyTTL: int(s.proxyTTL), TLS: s.clientTLS(), Listed: s.env.Capabilities.listedBy(s.picked().Backend.ID, s.env.Now)}
}

// clientTLS describes the client's TLS connection for the backend; nil: it has none.
func (s *Session) clientTLS() *upstream.ClientTLS {
	if own := upstream.TLSOf(s.client.TLS()); own != nil {
		return own
	}
	return s.before
}

// poolKey returns the key of the pooled connections that this session may use.
func (s *Session) poolKey(use upstream.Use) upstream.PoolKey {
	dialect := "watch"
	if use == upstream.UseSession {
		names := slices.Sorted(slices.Values(s.inFlight.Client.Enabled))
		dialect = strings.Join(names, " ")
		if s.inFlight.Client.Dialect == view.CondStore && !slices.Contains(names, "CONDSTORE") {
			dialect += " +CONDSTORE"
		}
	}
	return s.set.Park.Pool.Key(s.user, s.target(), s.auth(), use, dialect)
}

// loginAgain makes another connection for the session's user. If the backend refuses the login, pooled
// connections of the user are closed: those opened with the refused credential, or all of them if the user has
// reached the backend's limit of connections.
func (s *Session) loginAgain(ctx context.Context, use upstream.Use, steps *telemetry.Steps) (*upstream.Conn, error) {
	a := s.auth()
	if !s.cred.there() { // a watch shared with other sessions asks after the password was wiped: that isn't a refusal
		return nil, &upstream.Unavailable{Backend: s.picked().Backend.Shown(), Stage: upstream.StageSettings, Err: errSessionOver}
	}
	client := s.clientInfo()
	client.Use = use
	target := s.target()
	if steps != nil {
		client.Observe = func(phase string, start, end time.Time, err error) {
			steps.AddRemote(phase, start, end, err, telemetry.Peer{Address: target.Address, Failure: upstream.Outcome(err)})
		}
	}
	c, err := s.settings().Dialer.Login(ctx, target, a, client)
	if err == nil {
		s.cred.good(c.LoggedIn)
	}
	var refused *upstream.Refused
	if errors.As(err, &refused) {
		s.env.refusedCredential(s.user, a.Password, s.addr.Addr(), s)
	}
	var down *upstream.Unavailable
	if errors.As(err, &down) && down.MayBeFull() {
		s.settings().Dialer.Room().Refused(s.picked().Backend.ID, down.Fault() == upstream.FaultFull)
	}
	if err != nil {
		s.set.Park.refused(s.poolKey(upstream.UseWatch), s.user, err) // for each use of the pool
	}
	return c, err
}

// pooledConn takes a pooled connection for a resume. If only the backend can verify the credential, it takes
// one for which the backend has accepted the credential within Settings.Recheck.
func (s *Session) pooledConn() *upstream.Conn {
	pool, key := s.set.Park.Pool, s.poolKey(upstream.UseSession)
	if !s.cred.asUser {
		return pool.Take(key, upstream.Verified, s.addr.Addr())
	}
	now, within := s.env.Now(), s.settings().Recheck
	if _, asked := s.cred.last(); now.Sub(asked) < within {
		return pool.Take(key, upstream.Verified, s.addr.Addr())
	}
	c := pool.TakeSince(key, now.Add(-within))
	if c != nil {
		s.cred.good(c.LoggedIn)
	}
	return c
}

// give returns the session's connection to the pool. No command is in progress on it.
func (s *Session) give(c *upstream.Conn, how upstream.Condition) {
	s.control.mu.Lock()
	s.backend.Store(nil)
	s.control.mu.Unlock()
	c.Rearm(conn.Both) // undoes the interruption of an end that came just now
	if s.leaving.Swap(false) {
		_ = c.Abort() // it isn't to be used again, and sending close_notify may block
		return
	}
	s.set.Park.Pool.Give(s.poolKey(upstream.UseSession), c, how)
}

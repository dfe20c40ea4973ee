package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// Users who were locked out, removed, or whose password was changed don't stay in. Sources are
// asked again about those who are logged in:
//   - when a source has changed (a passwd-file that was replaced, a reload): about every
//     session, attached or parked, at once;
//   - at each resume, before the backend is asked for anything; and about sessions that don't
//     resume every Options.Recheck. A source that can't tell without a hash whether anything has
//     changed is asked every Options.Recheck at most.
//
// Where the backend is the source it is asked by a login: a resume takes a warm connection
// only if the backend has let the credential in within Options.Recheck. Backends end what is
// attached to them as they see fit.

// DefaultRecheck is Options.Recheck's.
const DefaultRecheck = 5 * time.Minute

// recheckEvery is how often sessions that don't come back are asked about: where each resume asks
// there is no time to go by, and it is the default.
func (o Options) recheckEvery() time.Duration {
	return max(cmp.Or(o.Recheck, DefaultRecheck), time.Second)
}

// recheckTimeout bounds asking about one session. Hashing takes its turn.
const recheckTimeout = 30 * time.Second

// lockedOut means that the user isn't let in any more.
type lockedOut struct{ reason auth.Reason }

func (e *lockedOut) Error() string {
	return fmt.Sprintf("the user isn't let in any more: %s", e.reason)
}

// holds says, without asking anybody, that the session's user may be in. changed is for when a
// source has: then no time that has passed is short enough.
func (s *Session) holds(set *settings, now time.Time, changed bool) bool {
	stamp, asked := s.cred.last()
	if stamp == nil {
		return !changed && now.Sub(asked) < set.Recheck
	}
	return auth.Holds(set.Sources, s.user, stamp)
}

// recheck asks the sources whether the session's user may still be in. The error is a *lockedOut,
// or says that it can't be told now.
func (s *Session) recheck(ctx context.Context) error {
	set := s.settings()
	stamp, _ := s.cred.last()
	password, ok := s.cred.reveal()
	if !ok {
		return errSessionOver
	}
	// The name is canonical since the login, and stays what it was.
	creds := auth.Credentials{User: s.user, Password: password, Mechanism: s.cred.mechanism, Client: s.addr.Addr(), Known: true}
	switch v := auth.Recheck(ctx, set.Sources, creds, stamp).(type) {
	case auth.Accepted:
		s.cred.took(v.Stamp, s.srv.now())
	case auth.AskBackend:
		if !s.cred.asUser { // the source that knew them doesn't, and the backend hasn't been asked
			return &lockedOut{auth.ReasonUnknownUser}
		}
	case auth.Rejected:
		return &lockedOut{v.Reason}
	case auth.Unavailable:
		return fmt.Errorf("can't tell whether the user may still be in: %w", v.Err)
	default:
		panic(fmt.Sprintf("proxy: a verdict %T that Recheck never gives", v))
	}
	return nil
}

// recheckAtResume is recheck where it is due.
func (s *Session) recheckAtResume(ctx context.Context) error {
	set := s.settings()
	if !s.cred.asUser && s.holds(set, s.srv.now(), false) {
		return nil
	}
	return s.recheck(ctx)
}

// look asks about a session that may have been locked out, and ends it if it was.
func (s *Session) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	var out *lockedOut
	switch err := s.recheck(ctx); {
	case errors.As(err, &out):
		s.log().Warn("session ended, its user isn't let in any more", "reason", string(out.reason), "attachment", Attachment(s.attachment.Load()).String())
		s.terminate(ReasonCredentials)
	case err != nil:
		s.log().Debug("not rechecked", "error", err) // the next round will
	}
}

// noticeSources has all sessions looked at where a source has changed. The sweep calls it.
func (s *Server) noticeSources() {
	v := auth.Version(s.set.Load().Sources)
	if s.sourcesSeen.Swap(v) != v {
		s.recheckSoon()
	}
}

// recheckIfLate has all sessions looked at where a source has changed since the password was looked
// at: a round may have passed by a login that was under way.
func (p *preLogin) recheckIfLate() {
	if now := p.srv.set.Load().Sources; !slices.Equal(now, p.set.Sources) || auth.Version(now) != p.sources {
		p.srv.recheckSoon()
	}
}

// recheckSoon has all sessions looked at.
func (s *Server) recheckSoon() {
	select {
	case s.rechecks <- struct{}{}:
	default: // a round that hasn't begun
	}
}

// recheckSessions looks at the sessions when a source has changed, and every now and then (recheckEvery).
// Few are hashed for at a time, in the name of their clients' networks: logins go on meanwhile.
func (s *Server) recheckSessions(ctx context.Context) {
	for {
		timer := time.NewTimer(s.set.Load().recheckEvery())
		changed := false
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.rechecks:
			changed = true
		case <-timer.C:
		}
		timer.Stop()
		var looking errgroup.Group
		looking.SetLimit(runtime.GOMAXPROCS(0))
		set := s.set.Load()
		s.reg.each(func(c *Session) {
			if ctx.Err() != nil || !c.loggedIn.Load() || c.reason() != "" || c.holds(set, s.now(), changed) {
				return
			}
			looking.Go(func() error { c.look(ctx); return nil })
		})
		_ = looking.Wait()
	}
}

// warmConn takes a warm connection of the session's for a resume. Where none but the backend
// verifies the credential, it is one that the backend has let in with it not too long ago.
func (s *Session) warmConn() *upstream.Conn {
	pool, key := s.set.Park.Pool, s.poolKey(upstream.UseSession)
	if !s.cred.asUser {
		return pool.Take(key, upstream.Verified, s.addr.Addr())
	}
	now, within := s.srv.now(), s.settings().Recheck
	if _, asked := s.cred.last(); now.Sub(asked) < within {
		return pool.Take(key, upstream.Verified, s.addr.Addr())
	}
	c := pool.TakeSince(key, now.Add(-within))
	if c != nil {
		s.cred.good(c.LoggedIn)
	}
	return c
}

// spareLogins is for how long a credential that the backend has just taken isn't doubted.
const spareLogins = time.Minute

// refusedCredential ends the user's parked sessions, but for one, that hold a credential which
// the backend has just refused to a client at an address. Those whose clients are in another
// network ask for themselves: a backend may let a user in from some only.
func (s *Server) refusedCredential(user string, password telemetry.Secret, from netip.Addr, but *Session) {
	now := s.now()
	for _, c := range s.reg.ofUser(user) {
		if c == but || c.reason() != "" || Attachment(c.attachment.Load()) != Parked || !c.cred.is(password) || c.auth().Mode == upstream.ModeMaster {
			continue
		}
		if upstream.SameNetwork(c.addr.Addr(), from) {
			c.log().Info("parked session ended, the backend has refused its credential")
			c.terminate(ReasonCredentials)
		} else if c.cred.doubt(now, spareLogins) {
			c.signal(sigDoubt)
		}
	}
}

package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

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

// recheckTimeout bounds asking about one session. Hashing takes its turn.
const recheckTimeout = 30 * time.Second

// lockedOut means that the user isn't let in any more.
type lockedOut struct{ reason auth.Reason }

func (e *lockedOut) Error() string {
	return fmt.Sprintf("the user isn't let in any more: %s", e.reason)
}

// Holds says, without asking a source, that the session's user may be in. changed is for when a
// source has: then no time that has passed is short enough.
func (s *Session) Holds(set *Settings, now time.Time, changed bool) bool {
	stamp, asked := s.cred.last()
	if stamp == nil {
		return !changed && now.Sub(asked) < set.Recheck
	}
	return auth.Holds(set.Sources, s.cred.login(s.user), stamp)
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
	creds := auth.Credentials{
		User: s.cred.login(s.user), Password: password, Mechanism: s.cred.mechanism,
		Client: s.addr.Addr(), Known: true, Local: s.local.Addr(), TLS: s.secure.Load(), Attempt: 1,
	}
	switch v := auth.Recheck(ctx, set.Sources, creds, stamp).(type) {
	case auth.Accepted:
		if cmp.Or(v.User, creds.User) != s.user { // the name is another user's now
			return &lockedOut{auth.ReasonUnknownUser}
		}
		s.cred.took(creds.User, v, s.env.Now())
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
	if !s.cred.asUser && s.Holds(set, s.env.Now(), false) {
		return nil
	}
	return s.recheck(ctx)
}

// Look asks about a session that may have been locked out, and ends it if it was.
func (s *Session) Look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	var out *lockedOut
	switch err := s.recheck(ctx); {
	case errors.As(err, &out):
		s.log().Warn("session ended, its user isn't let in any more", "reason", string(out.reason), "attachment", Attachment(s.attachment.Load()).String())
		s.Terminate(ReasonCredentials)
	case err != nil:
		s.log().Debug("not rechecked", "error", err) // the next round will
	}
}

// recheckIfLate has all sessions looked at where a source has changed since the password was looked
// at: a round may have passed by a login that was under way.
func (p *preLogin) recheckIfLate() {
	if now := p.env.Settings().Sources; !slices.Equal(now, p.set.Sources) || auth.Version(now) != p.sources {
		p.env.Recheck()
	}
}

// pooledConn takes a warm connection of the session's for a resume. Where none but the backend
// verifies the credential, it is one that the backend has let in with it not too long ago.
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

// spareLogins is for how long a credential that the backend has just taken isn't doubted.
const spareLogins = time.Minute

// refusedCredential ends the user's parked sessions, but for one, that hold a credential which
// the backend has just refused to a client at an address. Those whose clients are in another
// network ask for themselves: a backend may let a user in from some only.
func (e *Env) refusedCredential(user string, password telemetry.Secret, from netip.Addr, but *Session) {
	now := e.Now()
	for _, c := range e.Registry.OfUser(user) {
		if c == but || c.Reason() != "" || Attachment(c.attachment.Load()) != Parked || !c.cred.is(password) || c.auth().Mode == upstream.ModeMaster {
			continue
		}
		if upstream.SameNetwork(c.addr.Addr(), from) {
			c.log().Info("parked session ended, the backend has refused its credential")
			c.Terminate(ReasonCredentials)
		} else if c.cred.doubt(now, spareLogins) {
			c.Signal(SigDoubt)
		}
	}
}

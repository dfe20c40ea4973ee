package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// Users who were locked out or removed, or whose password was changed, don't stay logged in. Sources are asked
// again about logged-in users:
//   - when a source has changed (a passwd-file was replaced, a reload): about every session, attached or
//     parked, at once;
//   - at each resume, before the backend is asked for anything; and about sessions that don't resume at each
//     Options.Recheck. A source that needs a password hash to tell whether anything has changed is asked at
//     most once per Options.Recheck.
//
// If the backend is the source, it is asked by a login: a resume takes a pooled connection only if the backend
// has accepted the credential within Options.Recheck. Backends end attached sessions themselves, as they see
// fit.

// DefaultRecheck is the default of Options.Recheck.
const DefaultRecheck = 5 * time.Minute

// recheckTimeout bounds the recheck of one session, which may wait for its turn to hash.
const recheckTimeout = 30 * time.Second

// lockedOut says that the user may not be logged in any more.
type lockedOut struct{ reason auth.Reason }

func (e *lockedOut) Error() string {
	return fmt.Sprintf("the user may not log in any more: %s", e.reason)
}

// Holds says, without asking a source, whether the session's user may stay logged in. changed says that a
// source has changed: then an earlier answer doesn't count, however recent it is.
func (s *Session) Holds(set *Settings, now time.Time, changed bool) bool {
	if !s.stays(now) {
		return false
	}
	stamp, asked := s.cred.last()
	if stamp == nil {
		return !changed && now.Sub(asked) < set.Recheck
	}
	return auth.Holds(set.Sources, s.cred.login(s.user), stamp)
}

// recheck asks the sources whether the session's user may stay logged in. The error is a *lockedOut, or says
// that no source can decide now.
func (s *Session) recheck(ctx context.Context) error {
	set := s.settings()
	stamp, _ := s.cred.last()
	password, ok := s.cred.reveal()
	if !ok {
		return errSessionOver
	}
	if !s.stays(s.env.Now()) {
		return &lockedOut{auth.ReasonBadCertificate}
	}
	if auth.Holds(set.Sources, s.cred.login(s.user), stamp) {
		return nil // what the source gave, another user's name for instance, is as before
	}
	// The name is canonical since the login and doesn't change.
	creds := auth.Credentials{
		User: s.cred.login(s.user), Password: password, Mechanism: s.cred.mechanism,
		Client: s.addr.Addr(), Known: true, Local: s.local.Addr(), TLS: s.secure.Load(), Attempt: 1,
	}
	switch v := auth.Recheck(ctx, set.Sources, creds, stamp).(type) {
	case auth.Accepted:
		if cmp.Or(v.User, creds.User) != s.user { // the name belongs to another user now
			return &lockedOut{auth.ReasonUnknownUser}
		}
		s.cred.took(creds.User, v, s.env.Now())
	case auth.AskBackend:
		if !s.cred.asUser { // the source that knew the user doesn't any more, and the backend wasn't asked
			return &lockedOut{auth.ReasonUnknownUser}
		}
	case auth.Rejected:
		return &lockedOut{v.Reason}
	case auth.Unavailable:
		return fmt.Errorf("it isn't known whether the user may still log in: %w", v.Err)
	default:
		panic(fmt.Sprintf("proxy: a verdict %T that Recheck never gives", v))
	}
	return nil
}

// noticeExpiry has a parked session get its connection back before the token ends that it logs in with at its backend. One that waits for
// another connection after a loss, and whose token doesn't say when it ends, or is over, has nothing to gain from that.
func (s *Session) noticeExpiry(now time.Time) {
	if Attachment(s.attachment.Load()) == Parked && !s.cred.lasts(now, tokenToResume) && s.cred.until.After(now) {
		s.Signal(SigExpires)
	}
}

// recheckAtResume calls recheck if it is due.
func (s *Session) recheckAtResume(ctx context.Context) error {
	set := s.settings()
	if !s.cred.asUser && s.Holds(set, s.env.Now(), false) {
		return nil
	}
	return s.recheck(ctx)
}

// Look rechecks a session whose user may have been locked out, and ends it if they were.
func (s *Session) Look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	var out *lockedOut
	switch err := s.recheck(ctx); {
	case errors.As(err, &out):
		s.log().Warn("session ended: its user may not log in any more", "reason", string(out.reason), "attachment", Attachment(s.attachment.Load()).String())
		s.Terminate(ReasonCredentials)
	case err != nil:
		s.log().Debug("not rechecked", "error", err) // the next round tries again
	}
}

// spareLogins is how long a credential isn't doubted after the backend has accepted it.
const spareLogins = time.Minute

// refusedCredential ends the user's parked sessions, except but, that hold a credential which the backend has
// just refused to a client at from. Sessions whose clients are in another network ask the backend themselves,
// since a backend may accept a user from some networks only.
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

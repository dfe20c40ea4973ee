package session

import (
	"log/slog"
	"net/netip"
	"time"

	"go.opentelemetry.io/otel/trace"

	"imapproxy/internal/clock"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// log returns the session's logger. It is made anew for each line: few lines are written, and each of many
// sessions would keep one in memory.
func (s *Session) log() *slog.Logger {
	return s.about(s.env.Telemetry.SessionLogger(s.id, s.trace()))
}

func (s *Session) about(l *slog.Logger) *slog.Logger {
	pick := s.picked()
	if pick == nil {
		return l.With("client", s.addr.String())
	}
	return l.With("user", s.user, "backend", pick.Backend.Shown())
}

// trace returns the login's trace context, which the traces of commands, parks and resumes link to.
func (s *Session) trace() trace.SpanContext {
	if s.link == nil {
		return trace.SpanContext{}
	}
	return *s.link
}

// settings returns the current settings, since a reload applies to logged-in sessions too. With the settings
// of its login, a session would still log in to backends with a master password that has been changed.
func (s *Session) settings() *Settings { return s.env.Settings() }

// auth returns the credentials for another login to the backend.
func (s *Session) auth() upstream.Auth {
	a := s.settings().Login
	a.User = s.user
	var given bool
	if a.Password, given = s.cred.forBackend(); !given && auth.NoPassword(s.cred.mechanism) {
		if s.cred.token() {
			a.Mechanism = s.cred.mechanism
		} else {
			a.Password = "" // what there is isn't a password for a backend, whatever a reload has made of backend_login
		}
	}
	if s.cred.asUser || given {
		a.Mode = upstream.ModeUser
	}
	return a
}

// picked returns the user's backend as the session knows it; nil before login.
func (s *Session) picked() *routing.Pick { return s.pick.Load() }

// target returns the picked backend with its current address from discovery.
func (s *Session) target() upstream.Target { return s.targetOf(s.picked().Current()) }

// targetOf returns how a backend is reached.
func (s *Session) targetOf(b *routing.Backend) upstream.Target { return s.settings().TargetOf(b) }

// ID returns the session's id.
func (s *Session) ID() string { return s.id }

// User returns the canonical name of the session's user. It may be called once LoggedIn returns true.
func (s *Session) User() string { return s.user }

// Backend returns the id of the session's backend. It may be called once LoggedIn returns true.
func (s *Session) Backend() string { return s.picked().Backend.ID }

// BackendName returns the name of the session's backend, which may change. It may be called once LoggedIn returns true.
func (s *Session) BackendName() string { return s.picked().Backend.Shown() }

// LastSeen returns when a byte last came from the client or the backend.
func (s *Session) LastSeen() time.Time { return clock.At(s.lastSeen.Load()) }

// Client returns the client's own address.
func (s *Session) Client() netip.AddrPort { return s.addr }

// LoggedIn says whether the client has logged in.
func (s *Session) LoggedIn() bool { return s.loggedIn.Load() }

// Attachment returns the session's attachment.
func (s *Session) Attachment() Attachment { return Attachment(s.attachment.Load()) }

// endedIn returns the attachment that a session had before it ended.
func (s *Session) endedIn() Attachment {
	if at := s.Attachment(); at != Ended {
		return at
	}
	return Attachment(s.endedAs.Load())
}

// LastHeard returns when a byte last came from the client, or the time of its login.
func (s *Session) LastHeard() time.Time { return clock.At(s.lastHeard.Load()) }

// Busy says whether a command other than IDLE is in progress.
func (s *Session) Busy() bool { return s.inFlight.Busy() }

// seen records that a byte came from the client or the backend.
func (s *Session) seen(now time.Time) { s.lastSeen.Store(clock.Of(now)) }

// took counts bytes sent to the backend.
func (s *Session) took(n int64) {
	s.bytesIn.Add(n)
	s.env.Telemetry.AddBytes(telemetry.In, n)
}

// blocked returns how long writes to the client have taken so far.
func (s *Session) blocked() time.Duration { return time.Duration(s.blockedFor.Load()) }

// setReason records why the session ends. Only the first reason is kept; setReason says whether r is it.
func (s *Session) setReason(r Reason) bool { return s.ending.CompareAndSwap(nil, &r) }

// Reason returns why the session ends, "" while it goes on.
func (s *Session) Reason() Reason {
	if r := s.ending.Load(); r != nil {
		return *r
	}
	return ""
}

// mayPark says whether both the settings of the session's login and the current settings allow parking, and the session's credential lasts
// long enough.
func (s *Session) mayPark() bool {
	if !s.mayGoOn() {
		return false
	}
	if !s.cred.lasts(s.env.Now(), tokenToPark) {
		s.park.blocker.Store(uint32(track.BlockerToken))
		return false
	}
	return true
}

// mayGoOn says whether both the settings of the session's login and the current settings have sessions followed, so that one can go on with
// another connection.
func (s *Session) mayGoOn() bool {
	own, now := s.set.Park.Hub != nil, s.env.Settings().Park.Hub != nil
	switch {
	case own && now:
		return true
	case own:
		s.park.blocker.Store(uint32(track.BlockerOff))
	case now:
		s.park.blocker.Store(uint32(track.BlockerBeforeOn))
	}
	return false
}

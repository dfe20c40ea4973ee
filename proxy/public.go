package proxy

import (
	"imapproxy/proxy/session"
	"imapproxy/proxy/track"
)

// What callers need of the sessions has a name here, so that they need this package alone.
type (
	// Limits bound what clients may have.
	Limits = session.Limits
	// ParkOptions say when sessions are parked.
	ParkOptions = session.ParkOptions
	// SessionInfo is a session as others see it.
	SessionInfo = session.Info
	// Filter chooses sessions.
	Filter = session.Filter
	// Reason is why a session ended.
	Reason = session.Reason
	// ParkBlocker is a reason for which a session keeps its backend connection.
	ParkBlocker = track.BlockerInfo
)

// MaxPage is how many sessions one page has at most.
const MaxPage = session.MaxPage

// Parked is a session's attachment (SessionInfo.Attachment) while it has no backend connection.
const Parked = session.Parked

// Ways of TLS of a listener.
const (
	TLSImplicit = session.TLSImplicit // RFC 8314 §3
	TLSStartTLS = session.TLSStartTLS // RFC 9051 §6.2.1
	TLSNone     = session.TLSNone
)

// Reasons lists why sessions end, for the documentation and its test.
func Reasons() []Reason { return session.Reasons() }

// ParkBlockers lists why sessions keep their backend connections.
func ParkBlockers() []ParkBlocker { return track.Blockers() }

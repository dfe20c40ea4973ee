package proxy

import (
	"imapproxy/proxy/session"
	"imapproxy/proxy/track"
)

// Names of session's types that callers need, so that they import only this package.
type (
	// Limits bound the resources of clients.
	Limits = session.Limits
	// ParkOptions say when sessions are parked.
	ParkOptions = session.ParkOptions
	// SessionInfo describes a session for listings.
	SessionInfo = session.Info
	// Filter chooses sessions.
	Filter = session.Filter
	// Reason is why a session ended.
	Reason = session.Reason
	// ParkBlocker is a reason for which a session keeps its backend connection.
	ParkBlocker = track.BlockerInfo
)

// MaxPage is the largest number of sessions in a page.
const MaxPage = session.MaxPage

// Parked is a session's attachment (SessionInfo.Attachment) while it has no backend connection.
const Parked = session.Parked

// TLS modes of a listener.
const (
	TLSImplicit = session.TLSImplicit // RFC 8314 §3
	TLSStartTLS = session.TLSStartTLS // RFC 9051 §6.2.1
	TLSNone     = session.TLSNone
)

// Reasons lists why sessions end, for the documentation and its test.
func Reasons() []Reason { return session.Reasons() }

// Orders are the values of Filter.Sort.
func Orders() []string { return session.Orders() }

// ParkBlockers lists why sessions keep their backend connections.
func ParkBlockers() []ParkBlocker { return track.Blockers() }

package telemetry

import "time"

// AttachmentCount is the number of sessions in one state of attachment.
type AttachmentCount struct {
	Attachment string
	Count      int64
}

// StateCount is the number of backends in one state.
type StateCount struct {
	State string
	Count int64
}

// BackendCount is the number of sessions on one backend.
type BackendCount struct {
	Backend string
	Count   int64
}

// RoutingStats are the values of the routing gauges.
type RoutingStats struct {
	Backends []StateCount
	Sessions []BackendCount
	Pins     int64
	Paused   int64 // backends
	// Age is how long ago discovery last gave an answer that was taken; negative: never.
	Age time.Duration
}

// LeavingStats are the numbers of this proxy's older processes after an upgrade, and of their sessions.
type LeavingStats struct{ Processes, Sessions int64 }

// ParkingStats are the values of the instruments about parked sessions. The keys of the maps are values of
// the instruments' labels. Mailboxes and Waiting are current values; all others count from the start.
type ParkingStats struct {
	Mailboxes map[string]int64 // by watch
	Hints     map[string]int64 // by source
	Watches   map[string]int64 // results of watches and subscriptions, by outcome
	Events    map[string]int64 // requests by outcome; nil: push events are off
	Notices   map[string]int64 // notices in push events, by outcome; nil: likewise
	Forwarded map[string]int64 // notices between proxies, by outcome
	Waiting   int64
}

// ClusterStats are the values of the instruments about the agreement of several proxies. Late and Switches count from the
// beginning, all else is as of now.
type ClusterStats struct {
	Epoch, Acked   int64
	Isolated       bool
	Living, Ended  int64 // proxies
	Stays, Waiting int64
	Late, Switches int64
	Leaving        []ClusterLeaving
}

// ClusterLeaving is how far this proxy is with a backend that users leave.
type ClusterLeaving struct {
	Backend string
	Users   int64
	Held    map[string]int
	Turns   int64 // seconds
}

// ProcessStats are facts about the process and what it was given, for SetProcessGauges. Zero times aren't shown.
type ProcessStats struct {
	ConfigDigest   string
	ConfigRead     time.Time
	Reloaded       time.Time // the last reload
	ReloadOK       bool
	ConsulAnswered time.Time
	Certificates   []CertificateEnd
	Resources      []Resource
	Saved          Saved
}

// Saved is what parking saves at backends.
type Saved struct {
	Connections int64
	Memory      *int64 // bytes; nil: the memory of a backend's process isn't known
	Logins      int64  // since the start
}

// CertificateEnd says when a certificate expires.
type CertificateEnd struct {
	Of   string // a listener, and which of its certificates, or whose clients' authority; or admin
	List bool   // it is the authority's revocation list
	End  time.Time
}

// Resource is one that has a limit; 0: it has none.
type Resource struct {
	Name        string
	Used, Limit int64
}

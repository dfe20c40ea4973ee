package problems

import "time"

// Kind is what is wrong. Its values are labels of the metric imapproxy_problems and rows of docs/operations.md.
type Kind string

// The kinds of problems.
const (
	NoBackend      Kind = "no_backend"    // none is up
	BackendDown    Kind = "backend_down"  // it is down, or can't be reached
	BackendSlow    Kind = "backend_slow"  // its answers are slow, or don't come
	BackendKept    Kind = "backend_kept"  // discovery took it away, and the panic threshold keeps it
	ConsulSilent   Kind = "consul_silent" // no answer has come for some time
	Isolated       Kind = "isolated"      // the proxy is cut off from the others
	ProxyGone      Kind = "proxy_gone"    // another proxy's Consul session has ended
	ProxyVersion   Kind = "proxy_version" // another proxy has another version
	PolicySilent   Kind = "policy_silent" // the policy server doesn't answer
	Certificate    Kind = "certificate"   // it ends soon, or its new files can't be used
	ReloadFailed   Kind = "reload_failed" // the last one
	Descriptors    Kind = "descriptors"   // near the limit
	Memory         Kind = "memory"        // near the limit
	SessionsLimit  Kind = "sessions"      // near the limit
	ShortageLately Kind = "shortage"      // the proxy has run out of something
	WatchesLost    Kind = "watches_lost"  // of mailboxes with parked sessions
	PushMissing    Kind = "push_missing"  // no push event has come for some time
	PushRefused    Kind = "push_refused"  // push events were refused
	UnknownTLS     Kind = "unknown_tls"   // the program was built with another crypto/tls than it knows
)

// Kinds returns all kinds, in the order in which problems are listed.
func Kinds() []Kind {
	return []Kind{
		NoBackend, BackendDown, BackendSlow, BackendKept, ConsulSilent, Isolated, ProxyGone, ProxyVersion, PolicySilent, Certificate, ReloadFailed,
		Descriptors, Memory, SessionsLimit, ShortageLately, WatchesLost, PushMissing, PushRefused, UnknownTLS,
	}
}

// A Problem is one thing that an operator should know of.
type Problem struct {
	Kind     Kind
	Critical bool   // clients are refused or wait now; otherwise they will, or parts of the service are lost
	Subject  string // the backend, listener, proxy or resource; "": the proxy itself
	Text     string // a sentence, without the subject
	Since    time.Time
}

// From when on something is a problem. On an ordinary day none of these is reached.
const (
	// Lately is for how long something that has happened is a problem.
	Lately = 10 * time.Minute
	// SlowShare is the share of slow answers that makes a backend slow, of at least SlowAnswers.
	SlowShare   = 0.10
	SlowAnswers = 10
	// Silence is how long Consul may say nothing: its answers come at least once in 70 s.
	Silence = 150 * time.Second
	// PolicyFailures is how many questions and reports in a row the policy server must leave without an answer.
	PolicyFailures = 3
	// CertificateLeft is the time before a certificate's end; a fifth of its lifetime if that is shorter.
	CertificateLeft = 14 * 24 * time.Hour
	// DescriptorShare, MemoryShare and SessionShare are the used parts of limits.
	DescriptorShare = 0.80
	MemoryShare     = 0.90
	SessionShare    = 0.90
	// PushSilence is how long no push event may come while PushMailboxes mailboxes and more depend on them.
	PushSilence   = time.Hour
	PushMailboxes = 20
)

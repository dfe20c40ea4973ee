package app

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/config"
	"imapproxy/internal/handover"
	"imapproxy/internal/peers"
	"imapproxy/internal/postfix"
	"imapproxy/internal/task"
	"imapproxy/proxy"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/auth/authpolicy"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/events"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/agree"
	agreed "imapproxy/routing/cluster"
	"imapproxy/routing/discovery"
	"imapproxy/telemetry"
)

// An App is one proxy, from Open to Close.
type App struct {
	opts     Options
	instance string    // an id of this process
	started  time.Time // when it began
	level    *slog.LevelVar
	tel      *telemetry.Telemetry

	router   *routing.Router
	room     *upstream.Room           // counts the connections to backends
	findings *upstream.MasterFindings // results about the backends' master logins
	parking  *parking
	server   *proxy.Server
	cluster  *cluster
	// agreement is how the proxies agree on where users are; nil: this one decides alone.
	agreement *agreement
	// beside is for processes of this proxy that serve at the same time during an upgrade.
	beside  *beside
	admin   *admin.Server   // nil where it is off
	events  *admin.Server   // nil if events come to admin, or are off
	lookups *postfix.Server // nil if Postfix isn't answered

	ready   chan struct{}   // closed when the first set of backends has been applied
	reloads chan chan error // Reload's requests; Run answers each one that it receives
	ending  chan struct{}   // closed when no more requests are received
	end     func()          // closes ending, once
	over    context.Context // ends when the App stops to serve: Run's ctx has ended, or stop was called
	stop    func()          // ends Run

	leaving chan struct{} // closed when SIGTERM has come and clients are still accepted, for shutdown.lame_duck

	pauseNews chan struct{} // pauses of backends have changed
	history   history       // of the last hour and day

	lastReload atomic.Pointer[admin.Reload] // nil: there was none
	asked      *discovery.RegisterOptions   // the entry in Consul with which alone has asked; nil: there is none
	registered atomic.Pointer[string]       // the id in Consul; nil: it isn't registered
	current    atomic.Pointer[inForce]      // for other goroutines than Run's

	// ---- What follows belongs to the goroutine of Open, Run and Close.

	cfg     *config.Config // the current settings; those that need a restart are those of the start
	sources []auth.Source
	policy  *authpolicy.Client // nil: there is no policy server
	asksBy  [32]byte           // wiring.PolicyFiles, as policy has read them
	source  discovery.Source   // of the backends
	files   [32]byte           // wiring.FleetFiles at the time when source and registration read them
	secrets [32]byte           // wiring.AuthFiles, as sources have read them
	sockets *handover.Sockets  // bound elsewhere, and not yet taken
	bound   bool               // the listeners are bound
	ran     bool
	closed  bool

	watching     *task.Task // source.Run
	pausing      *task.Task // keepPauses
	recording    *task.Task // keepHistory
	registration *task.Task // nil where it is off
	serving      *task.Task // server.Serve
	answering    *task.Task // admin.Serve
	listening    *task.Task // events.Serve
	answered     *task.Task // lookups.Serve
}

// inForce are the current settings. They don't change: a reload stores others.
type inForce struct {
	cfg    *config.Config
	digest string    // config.Digest
	since  time.Time // when the file began to be read
}

// Options are the settings of an App that aren't in its configuration. File or Config is required;
// the other fields have a usable zero value.
type Options struct {
	// File is the configuration's file. Open reads it, and each Reload again.
	File string
	// Config is used instead of a file. Such an App can't be reloaded.
	Config *config.Config

	// Version is sent to clients in ID, and is in telemetry.
	Version string
	// Logs receives the log if the configuration names no file for it; nil: standard error.
	Logs io.Writer
	// Certificate is for listeners with TLS for which the configuration has no certificate.
	Certificate *proxy.Certificate
	// VerbToken is required of those who change something by the admin API, besides the tokens of the configuration. Without
	// those, what is on loopback can be read without a token. "": there is none.
	VerbToken telemetry.Secret
	// Sockets are listening sockets that systemd has bound; nil: none.
	Sockets *handover.Sockets
	// Trial is for how long a successor serves beside the old process before that one stops to accept; 0: a second.
	Trial time.Duration
	// Restart starts a successor of this process, as `imapproxy upgrade` asks for it. nil: it can't be done.
	Restart func() (Started, error)
	// Notify tells the service manager a state in the form of sd_notify; nil: there is no service manager.
	Notify func(state string) error

	// Now is the clock of all parts; nil: time.Now.
	Now func() time.Time
	// Park has settings of parking for tests.
	Park ParkOptions
	// Agreement decides where users are, in tests. nil: the configuration says whether proxies agree.
	Agreement Agreement
}

// Agreement is a decision on where users are that isn't this process's own.
type Agreement interface {
	Routing() routing.Agreement
	Claims() upstream.Claims
}

// ParkOptions are times that the configuration doesn't have, or for which it has a larger minimum, and an
// injected fault. 0: the configuration's value, or the default.
type ParkOptions struct {
	SweepEvery, PollEvery, NotifyRenewEvery time.Duration // see park.HubOptions
	ResumeWithin, ResumeTry                 time.Duration // see proxy.ParkOptions
	// Plant changes the result of a resync before parked sessions are told; see park.HubOptions.
	Plant func(mailbox string, s *view.State) *view.State
}

// agreement is this proxy's part in the agreement of all proxies (docs/cluster.md), as the other parts of an
// App use it: it is the router's Agreement, and its claims are the dialer's Claims. It exists if the
// settings have discovery "consul" and a block cluster.
type agreement struct {
	part    *agreed.Cluster // made by open, before anything is served
	id      string
	storage routing.Storage
	within  atomic.Int64 // agree_within
	holds   atomic.Bool  // isolated = "hold"

	// take passes a fleet to the router and the parts that depend on it; watch sets it.
	take atomic.Pointer[func(routing.Snapshot)]

	// Held while a fleet is passed to the router, so that fleets arrive in their order.
	giving sync.Mutex
	fleet  *agree.Fleet // the newest

	ends ends

	// Guards what follows; nothing waits under it.
	mu      sync.Mutex
	epoch   uint64        // the epoch that the router uses
	applied chan struct{} // closed, and replaced, at each fleet

	running, telling *task.Task
}

// connClaim is the right of a connection to exist.
type connClaim struct {
	of   *agreement
	hold *agreed.Hold
	user string
}

// mover is the admin API's Mover.
type mover struct{ *App }

// cluster finds and asks the other proxies of the service. It exists without a cluster block, too, and has
// no peers then, so that a reload can name some.
type cluster struct {
	id    string // of this process
	fleet *peers.Fleet
	// outbox sends push events on to the others.
	outbox *peers.Outbox
	token  atomic.Pointer[telemetry.Secret] // that the others send
	cert   atomic.Pointer[tls.Certificate]  // of the admin API; nil: it has none

	finding *task.Task // nil if Consul isn't used
	sending *task.Task // outbox.Run
}

// parking has the parts that parked sessions need. They exist while parking is off, too, and cost almost
// nothing then, so that a reload can switch parking on and off.
type parking struct {
	hub    *park.Hub
	pool   *upstream.Pool
	room   *upstream.Room   // counts the connections to backends
	queue  *park.HintQueue  // of the events' hints
	events *events.Handler  // nil: backends post none
	clock  func() time.Time // nil: time.Now

	outbox *peers.Outbox // sends events on to the other proxies

	names   atomic.Pointer[auth.Names] // for the users of events; a reload sets them
	enabled atomic.Bool
	told    atomic.Uint64 // hints that other proxies have sent on
	toldAt  atomic.Int64  // when the last ones came, in nanoseconds

	watching, sweeping *task.Task // hub.Run, pool.Run
}

// pauser is the admin API's Pauser. Where the proxies agree, a pause stands in their fleet; otherwise it is
// this proxy's own.
type pauser struct{ *App }

// notify tells the service manager. text is what systemctl status shows.
func (a *App) notify(state, text string) {
	if a.opts.Notify == nil {
		return
	}
	if state != "" {
		state += "\n"
	}
	if err := a.opts.Notify(state + "STATUS=" + text); err != nil {
		a.tel.Log.Warn("the state can't be reported to systemd", "error", err)
	}
}

// warn logs the warnings about a configuration.
func (a *App) warn(warnings []config.Warning) {
	for _, w := range warnings {
		a.tel.Log.Warn("configuration", "at", w.At(), "what", w.What, "instead", w.Instead)
	}
}

// called returns a backend's name.
func (a *App) called(id string) string {
	for _, b := range a.router.Backends() {
		if b.ID == id {
			return b.Name
		}
	}
	return id
}

// given returns a time that may be missing; nil: it is.
func given(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// now returns the time by the App's clock.
func (a *App) now() time.Time {
	if a.opts.Now != nil {
		return a.opts.Now()
	}
	return time.Now()
}

// Names of the sockets that aren't listeners of mail clients. A listener's name can't have a blank.
const (
	adminSocket   = "admin api"
	eventsSocket  = "push events"
	lookupsSocket = "lookups of routes"
)

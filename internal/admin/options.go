package admin

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"imapproxy/internal/peers"
	"imapproxy/proxy"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// Options are the settings of a Server. Address, Proxy and Router are required.
type Options struct {
	Address string // host:port
	// Listener is a socket that was bound to Address elsewhere; nil: Listen binds it.
	Listener *net.TCPListener
	// Token is the token that callers must send (Authorization: Bearer); "" means that none is required,
	// which is allowed on loopback only.
	Token telemetry.Secret
	// ReadToken is another one that callers may send who only read; "": there is none. It has no meaning without Token.
	ReadToken telemetry.Secret
	// TLS has the certificate; nil: the API uses no TLS.
	TLS *tls.Config
	// ID is this process's own, by which it recognises itself among its peers; Name returns the proxy's name, nil: its
	// hostname. Fleet is the other proxies, nil: this one is alone. PeerToken returns the token that they send,
	// besides Token; nil, or "": none.
	ID        string
	Name      func() string
	Fleet     Fleet
	PeerToken func() telemetry.Secret
	Digest    func() string // of the settings; nil: unknown
	// Config returns the running configuration, compared with its file, which it reads. It may be called by several goroutines. nil: there's no /v1/config.
	Config func() Config
	// Problems returns what is wrong now, the worst first. nil: nothing is known of it.
	Problems func() []Problem
	// Process returns when certificates end and how full the process is; nil: nothing is known of it.
	Process func() Process
	// Agreement returns this proxy's part in the agreement, and its mode while it is isolated. nil: the proxies don't agree with each other.
	Agreement func() (a Agreement, isolated string)
	// Remove removes a dead proxy from the agreement; with force also one that answers. nil: there's no
	// /v1/proxies/remove.
	Remove  func(ctx context.Context, id string, force bool) error
	Proxy   Proxy
	Router  Router
	Metrics http.Handler    // nil: there's no /metrics
	Events  http.Handler    // nil: there's no /v1/events. It asks for a token of its own.
	Parking func() *Parking // nil, or returns it: parking is off
	// Shortages returns the resources of its own that the proxy has run out of; nil: unknown.
	Shortages func() []Shortage
	// Room returns how many connections the proxy has to a backend, and their bound; nil: unknown.
	Room func(backend string) (connections, bound int)
	// SessionsOn counts the sessions of backends, by their stable ids; Lately returns what was seen of a backend lately, by its name. nil: unknown.
	SessionsOn func(backends ...string) map[string]proxy.SessionsAt
	Lately     func(name string) BackendLately
	// Capabilities returns what a backend can do, and whether that is known from logins; nil: unknown.
	Capabilities func(backend string) (capabilities []string, login bool)
	// LameDuck reports whether the proxy will stop soon, and accepts clients until then; nil: it won't.
	LameDuck func() bool
	// Leaving returns the older processes of this proxy; nil: there are none.
	Leaving func() []Leaving
	Reload  func() *Reload // nil, or returns it: there was no reload
	// User returns the data about a user, without the sessions; Flush removes cached data. nil: there's no
	// /v1/user, no /v1/flush.
	User  func(ctx context.Context, user string) User
	Flush func(user string) FlushAnswer
	// Route returns where a user's mail is served; nil: there's no /v1/route.
	Route Routes
	// Hints takes what another proxy has sent on of push events; nil: there's no /v1/hints.
	Hints func([]peers.Hint)
	// Kick ends sessions; nil: there's no /v1/kick.
	Kick func(context.Context, proxy.Kick) proxy.Kicked
	// Mover moves users; nil: the proxies don't agree with each other, and the verbs are refused.
	Mover Mover
	// Past is what the proxy remembers; nil: there are no /v1/history, /v1/changes, /v1/ended, /v1/failing, /v1/slow, /v1/top and
	// /v1/commands.
	Past Past
	// TraceURL returns telemetry.trace_url; nil, or "": there are no links to traces.
	TraceURL func() string
	// Pauser pauses backends; nil: the verbs are refused.
	Pauser Pauser
	Log    *slog.Logger     // nil: nothing is logged
	Now    func() time.Time // nil: time.Now
}

// A Server is the API, or an address for events alone.
type Server struct {
	opts     Options
	addr     *net.TCPAddr // resolved, before it's bound
	loopback bool
	ln       net.Listener
	tcp      *net.TCPListener // under ln
	http     *http.Server
}

// Proxy has the methods of proxy.Server that the API uses.
type Proxy interface {
	Status() proxy.Status
	Sessions(proxy.Filter) (page []proxy.SessionInfo, next string)
}

// Past is what the proxy remembers.
type Past interface {
	// History returns the samples that were taken after a time, and the bill.
	History(after time.Time) History
	Events() []telemetry.Line
	Ended() []telemetry.Line
	FailedLogins() []telemetry.FailedLogin
	SlowCommands() []telemetry.SlowCommand
	// Commands and Attachments return the last of a session.
	Commands(session string) []telemetry.SessionCommand
	Attachments(session string) []telemetry.AttachmentChange
	// Latest returns what the sessions did since a time.
	Latest(since time.Time) Latest
}

// Latest is what the sessions did in a time: see Top.
type Latest struct {
	For      time.Duration
	Commands int
	Users    []TopUser
	Slowest  []telemetry.SlowCommand
}

// Router has the methods of routing.Router that the API uses.
type Router interface {
	Ready() bool
	LastGood() time.Time
	FromSaved() bool
	Backends() []routing.BackendStatus
}

// Fleet has the methods of peers.Fleet that the API uses.
type Fleet interface {
	All(context.Context, peers.Request) []peers.Answer
}

// Addr returns the bound address, nil before Listen.
func (s *Server) Addr() net.Addr {
	if s.ln == nil {
		return nil
	}
	return s.ln.Addr()
}

// Bounds of the resources that callers can use.
const (
	maxConns       = 64  // without a token, and as many with one
	maxEventConns  = 256 // if events come to the same address: more than are read at a time
	maxHeaderBytes = 16 << 10
	maxBodyBytes   = 1 << 10 // no request needs one
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = time.Minute
	shutdownTime   = 5 * time.Second // for requests in progress
)

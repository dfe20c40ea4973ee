package session

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// Session is one client connection, from accept to its last byte. Its phases are in phase.go. Its fields are
// grouped by which goroutines may read and write them.
type Session struct {
	// Never changed after accept; any goroutine may read them.
	id      string
	env     *Env
	lis     *Listener
	client  *conn.Conn          // read and written by the phase that runs, interrupted under control.mu
	peer    netip.AddrPort      // the address that the connection comes from, according to the PROXY header if there was one
	before  *upstream.ClientTLS // the client's TLS connection that a load balancer has ended; nil: there is none, or it doesn't count
	started time.Time

	// Written before login by phasePrelogin; never changed once loggedIn is true. A goroutine that has seen
	// loggedIn may read them.
	//
	// set holds the settings as of the session's last login attempt. After login it only decides whether the
	// session can be parked, and with which hub and pool; everything else comes from settings().
	set   *Settings
	addr  netip.AddrPort // the client's own address: peer, unless a trusted proxy or webmail has named another one (login_id.go)
	local netip.AddrPort // the address that the client connected to
	user  string
	cred  *credential        // has a lock of its own
	link  *trace.SpanContext // the login's trace; nil if traces are off

	// pick is the user's backend. Login sets it; repick (moved.go) replaces it while the session has no
	// backend connection.
	pick atomic.Pointer[routing.Pick]

	// caps is what the client was told that its backend can do, and no connection of the session has less. The login sets it; later the phase
	// that runs, if the session goes on at a backend with less.
	caps atomic.Pointer[backendCaps]

	// Owned by the phase that runs.
	*relaying // nil while parked

	// Written by the phase that runs, under control.mu; any goroutine may read it.
	backend atomic.Pointer[upstream.Conn] // nil while parked

	// Guarded by locks of their own (docs/locking.md).
	control  control
	inFlight track.InFlight
	out      clientOut
	park     parkState

	// Guarded by Registry.mu: the neighbours in the list of the user's sessions.
	prev, next *Session

	// Atomic; any goroutine may read them.
	attachment atomic.Uint32          // written only by show
	endedAs    atomic.Uint32          // the attachment before Ended; written only by show
	ending     atomic.Pointer[Reason] // written once
	endedAt    atomic.Int64           // when ending was set (internal/clock); written once
	aborted    atomic.Bool            // the connections are closed without lingering and without close_notify; set once, by abort
	halfClosed atomic.Bool            // the client has shut its sending side; this and the fields below, except leaving, are written by the phase that runs
	reusing    atomic.Bool            // the session ends, and its backend connection goes to the pool
	loggedIn   atomic.Bool            // set by phasePrelogin
	secure     atomic.Bool            // under TLS
	leaving    atomic.Bool            // the session is to give up its backend connection at the next safe point (letgo.go)
	lastSeen   atomic.Int64           // when a byte last came from either side (internal/clock)
	lastHeard  atomic.Int64           // when a byte last came from the client (internal/clock)
	asking     atomic.Pointer[asking] // the proxy's own exchange with the backend that the session waits for; nil: there is none
	wakeful    atomic.Int64           // lastSeen as of the last time when the session couldn't be dormant
	bytesIn    atomic.Int64           // from the client to the backend
	bytesOut   atomic.Int64
	commands   atomic.Int64
	blockedFor atomic.Int64  // how long writes to the client have taken, ns
	lastVerb   atomic.Uint32 // wire.Verb of the last command; Other: there was none, or an unknown one

	// Owned by the phase that runs; here so that they take no further word. narrows: the backend has capabilities that the client
	// wasn't told of at its login, and isn't told of now: the next backend may lack them.
	narrows bool

	// Written before login, as set is.
	proxyTTL uint8
}

// Origin is where a client comes from.
type Origin struct {
	Addr  netip.AddrPort      // its address
	Local netip.AddrPort      // the address that it has connected to
	TLS   *upstream.ClientTLS // its TLS connection, if a load balancer in front has ended it
}

// relaying holds the state that a session has only while it has a backend connection.
type relaying struct {
	greeting []byte // tells the client that it is logged in; nil once the client was told
	up       commandFlow
	down     responseFlow
}

// relays makes a new relaying, with both streams at the start of a unit.
func (s *Session) relays() {
	s.relaying = &relaying{up: commandFlow{s: s}, down: responseFlow{s: s, scan: wire.Scanner{Direction: wire.Responses}}}
}

// commandFlow is the direction from the client to the backend. It passes on every byte as it came, except the
// commands that the proxy answers itself (relay_intercept.go).
type commandFlow struct {
	s    *Session
	scan wire.Scanner

	since    time.Time // when the bytes that waited for the connection were read; zero: they are handled
	kind     track.LineKind
	swallow  bool            // the proxy answers the unit itself: nothing of it is passed on
	command  bool            // the unit is a command, in flight
	keeps    bool            // the command's text is kept
	rule     *wire.Rule      // of the command
	quotes   track.Quoting   // of the command's text, where a literal may follow
	args     track.Arguments // the command's arguments, if it comes in several pieces
	size     int64           // of the unit so far
	awaiting bool            // the last piece announced a synchronising literal
	err      error           // a write to the backend failed
	refused  error           // why the client's stream can't be followed any further
	held     bool            // the last bytes wait, since the session is overdue
	gone     bool            // the backend connection is lost: bytes go nowhere, and Chunk stops after each unit
	over     bool            // a unit has ended since gone
	left     bool            // the next command isn't taken since gone
	visits   bool            // the next command is about a shared mailbox (shared.go)
	excused  bool            // the next command isn't
	refuses  bool            // what has come was sent behind a command about a shared mailbox that was refused (visit.lost): nothing of it may change anything
	turns    bool            // the bytes behind the last command are compressed, those before aren't
}

// responseFlow is the direction from the backend to the client. It passes on every byte as it came, except
// capability lists, from which the hidden capabilities are removed, and a BYE that is held back.
type responseFlow struct {
	s    *Session
	scan wire.Scanner

	caps    []byte   // the collected part of a line that is rewritten or held back
	long    []byte   // the part of a line that has passed and is followed once it is whole; nil: none is
	rewrite bool     // the unit has a capability list and is rewritten
	err     error    // a write to the client failed
	broken  error    // why the backend's stream can't be followed any further
	held    bool     // the last bytes wait, since the session is overdue
	leaves  bool     // a command leaves the mailbox, and until it has done so the client counts other messages than the backend
	pushed  int64    // bytes since the last tagged response; negative: that many of it are still to be written
	awaited *awaited // the wait for the connection; nil: no command has waited
	fetch   track.FetchResponse
	number  uint32 // of the message of the current FETCH response
	content bool   // that response has a message's content
	// farewell is a BYE of the backend that is held back: the client is told only if the session ends, since
	// it may go on with another connection.
	farewell []byte
	bye      bool      // the unit is such a BYE
	half     *halfTold // of the FETCH response that the client was told in part; nil: there is none
	contents track.Contents
	ended    bool          // the backend has ended the connection; written when the relay stops
	first    time.Time     // when the first bytes came behind the last tagged response; zero: none have
	tells    atomic.Uint64 // a track.Told: what the client was told; written only by the goroutine that reads the backend
	// followMu is held from the parsing of a chunk until it is written: a goroutine that answers in the
	// backend's place must not write in between. Lock order: followMu, then the locks of inFlight and out.
	followMu sync.Mutex
}

// awaited is a wait of the client's for a backend connection.
type awaited struct {
	from, to time.Time
	resume   *telemetry.Resume // for the trace of the first command that is answered; nil: that has it, or traces are off
}

// Env is what the sessions of a proxy share, and all that they know about the server. Any goroutine may use
// its fields. A test sets only those that it needs.
type Env struct {
	Now      func() time.Time
	Settings func() *Settings // the current ones: a reload replaces them

	Telemetry *telemetry.Telemetry
	Buffers   *conn.Pool        // lent to the readers of connections
	Names     track.NameBuffers // lent to commands that name a mailbox
	Texts     track.Texts       // lent to long commands
	Halves    halves            // lent to long responses
	Poller    *conn.Poller      // waits for the clients of parked sessions, and for both sides of dormant ones

	Registry     *Registry           // the sessions
	Places       *Places             // of clients before their login
	Guard        *guessing.Guard     // delays logins that may be guesses
	Handshakes   guessing.Handshakes // bounds TLS handshakes
	Queues       *Queues             // of logins, resumes and large differences
	Capabilities *Capabilities       // of the backends
	Probes       Probes              // of the backends
	Stalls       Stalls              // of the backends
	SharedLists  SharedLists         // of what owners share with users

	Draining func() bool       // no further session begins
	Overdue  func() bool       // this proxy may have lost its backend connections to another one; nil: never
	Recheck  func()            // requests a check of all sessions' credentials soon
	Gone     func()            // called once for each session, after it has ended
	Bug      func(what string) // called for a state that must not occur
}

// parkState is the session's state of parking.
type parkState struct {
	refused atomic.Int64 // when the client last sent a byte before the refusal that was counted last
	notTill atomic.Int64 // no attempt to park before this time, after one that failed (internal/clock)
	// stop cancels what the session waits for, since the session may end meanwhile; nil if it doesn't wait.
	stop    atomic.Pointer[context.CancelFunc]
	blocker atomic.Uint32 // a track.Blocker: why the session isn't parked, for the admin page

	// Owned by the phase that runs; kept over resumes.
	failures uint8          // failed attempts to park in a row
	mode     track.ParkMode // how the session is being parked
	// verb is that of the command that needs a backend. deferred is what catch-up has to tell the client, nil
	// if there is nothing.
	verb       wire.Verb
	hasCommand bool // the client sent that command; otherwise the session is woken, and no command is in progress
	// leaving is what that command does to the selected mailbox.
	leaving  track.Leaving
	cutIdle  bool   // the client was in IDLE when the connection was lost
	noSecond bool   // the backend has refused a second connection beside the one of the session's own on which the view is looked for
	star     uint32 // the UID or number that the command's "*" means; 0: what the backend takes it for
	deferred *deferred
	sub      *park.Subscription
	cause    string // why the session is resumed, for telemetry
	viewLost string // why the client's view wasn't found, if the session ends for that
	losses   losses
	cutFetch *cutFetch // a FETCH that is to be continued; nil: there is none
	found    *found    // the connection on which the view was found after a loss; nil: there is none

	mu       sync.Mutex  // guards the fields below. No client is written to while it is held
	times    uint32      // how often the session has been parked
	idle     bool        // the client is in IDLE
	view     *view.View  // nil if nothing is selected or the session isn't parked
	state    *view.State // the mailbox's state as the hub has reported it and the client hasn't been told; nil if there is none
	lastTold int64       // when the client was last sent something (internal/clock)
}

// losses counts how many times in a row a session's connection was lost with the same commands in progress.
type losses struct {
	since   uint32 // how many commands were answered by the last loss, modulo 2^32
	n       uint8
	stalled bool // one of these connections was given up (stall.go)
}

// deferred is what a resumed client hasn't been told yet, since its command has message numbers that it
// counted before.
type deferred struct {
	missed view.Difference
	view   *view.View       // the client's view before missed
	n      view.SequenceMap // includes the new messages in missed, which change no number
	ends   bool             // the command is DONE, and the proxy answers it, since more has arrived after it
}

// control is what a session shares with the goroutines that signal or terminate it.
type control struct {
	// mu guards the fields below and each change of Session.backend: a goroutine that interrupts a backend
	// connection holds mu, so that the connection still belongs to this session. Nothing waits while it holds
	// mu.
	mu      sync.Mutex
	phase   phase
	pending Signal
	guests  []guest // the connections to other users' mail
}

// guest is a connection to another user's mail, and the claim on the backend where that is.
type guest struct {
	conn *upstream.Conn
	pick *routing.Pick
}

// Shards is how many shards the registry has.
const Shards = 64

// Registry has every session from accept to its last byte, in shards by id so that sessions don't wait for a
// listing, and the counts to which limits apply.
type Registry struct {
	shards   [Shards]shard
	seed     maphash.Seed
	total    atomic.Int64
	counts   [len(attachmentNames)]atomic.Int64
	kicks    kicks
	unproved unprovedLogins
	failures failures

	mu     sync.Mutex // guards the fields below
	byIP   map[netip.Addr]int
	byUser map[string]int
	users  int // sessions in byUser: those with a proved password
	// first is each user's newest logged-in session; next and prev link it to the user's others.
	first map[string]*Session
	// guests has, by the owner of mailboxes, the sessions of other users that have connections to the owner's mail, and how many.
	guests map[string]map[*Session]int
}

// shard has its sessions in two maps: those that the sweep visits each time, and the parked ones, of which
// there may be a million that need no visit.
type shard struct {
	mu           sync.RWMutex
	busy, parked map[string]*Session
}

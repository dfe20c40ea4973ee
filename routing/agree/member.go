package agree

import (
	"time"
)

// Member is one proxy's part in the agreement. Its methods are events: each takes the time, changes what the Member knows,
// and leaves requests and effects behind, which Take gives. No method waits.
//
// It is not safe for use by several goroutines: the caller's lock makes a switch happen at one point in time between claims.
type Member struct {
	o       Options
	without rule // tests only
	now     time.Time

	// Where it stands.
	phase    phase
	isolated bool      // it doesn't trust what it knows
	removed  bool      // outside, and others have taken its key away: they may have moved its users
	relock   bool      // its key has to be locked by its new session
	session  string    // of Consul
	renewed  time.Time // when the last successful renewal was sent
	renewAt  time.Time // when the next one is due

	// What it goes by. A fleet, its tables and overrides belong together and change in switchTo alone.
	fleet     *Fleet
	tables    []table
	overrides [maxShards]map[string]string
	switched  time.Time            // when it switched to fleet
	down      map[string]time.Time // backends that the fleet calls down, since when by this clock

	// What it has published. own is what Consul certainly has or had; pending may be there as well.
	own        *Record
	ownIndex   uint64
	seq        uint64 // of the last record sent
	pending    *Record
	pendingTxn []TxnOp
	fate       fate
	joining    *joining

	// What it has read.
	latest  *Reading
	view    *Reading // the last one that claims may go by
	void    []uint64 // by bucket: readings whose own record has a lower Seq say nothing of it
	orphans map[string]orphan
	// restored is when it noticed last that Consul's state had been restored from an earlier one.
	restored time.Time
	outage   time.Time         // since when there is no fleet that it can use; zero: there is one
	told     map[string]uint64 // problems that the operator was told of, by key: the index

	// Who is where.
	places   places
	holds    map[string]*hold
	heads    []*hold // by bucket
	usersAt  []int   // by place: how many holds
	free     *hold
	emptied  bool // a stay may have lost its last connection
	letGoAt  time.Time
	asked    map[int]int64        // by bucket: the round of the schedule in which its users were asked to leave
	askedOf  map[string]int64     // by user, for users' own stays
	anew     map[string]anew      // users who are asked once more in the same turn
	yielding map[string]time.Time // users asked to leave since others have them elsewhere
	drains   map[string]*draining // by backend: how far this proxy is with the fleet's drains

	// What claims are judged by.
	stale    bool // verdicts are from before the last change
	verdicts []verdict
	ownAt    []place
	named    map[string]bool      // users with a stay of their own, or whose override has changed lately
	wants    map[string]time.Time // users whose stay elsewhere is to be followed, until when
	version  uint64

	writer      writer
	unreachable []string
	tellAt      time.Time // when unreachable backends may be published again

	ops     []Op
	effects []Effect
	lastOp  uint64
	flight  map[uint64]purpose
	busy    map[purpose]bool
	retry   map[purpose]time.Time
}

// phase says where a Member stands.
type phase uint8

const (
	outside phase = iota // it has no key, or none that its session holds: it has to join
	inside               // it counts
	leaving              // it counts until it holds nothing any more
	left
)

// fate is what is known of the pending record.
type fate uint8

const (
	sent    fate = iota + 1
	unknown      // no answer: to be read, and sent again
	refused      // it wasn't written; a reading says why
)

// purpose is what a request is for. One request for each is under way at a time.
type purpose uint8

const (
	forSession purpose = iota + 1
	forRenewal
	forEnd
	forReading
	forRecord
	forJoin
	forFleet
	forOrphan
	forLeave
)

type orphan struct {
	index uint64
	since time.Time
}

// New is a Member that has yet to join.
func New(o Options, now time.Time) (*Member, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Member{
		o: o, now: now, places: newPlaces(), holds: make(map[string]*hold), heads: make([]*hold, o.Buckets),
		void: make([]uint64, o.Buckets), verdicts: make([]verdict, o.Buckets), ownAt: make([]place, o.Buckets),
		orphans: make(map[string]orphan), told: make(map[string]uint64), down: make(map[string]time.Time),
		asked: make(map[int]int64), askedOf: make(map[string]int64), anew: make(map[string]anew), yielding: make(map[string]time.Time),
		wants: make(map[string]time.Time), flight: make(map[uint64]purpose), busy: make(map[purpose]bool),
		retry: make(map[purpose]time.Time), stale: true, named: make(map[string]bool), drains: make(map[string]*draining),
	}
	m.writer = newWriter()
	m.o.About.Started = now.UnixMilli()
	return m, nil
}

// Take gives what the events since the last Take have left behind: requests for Consul, each to be made by itself, and
// effects, in their order.
func (m *Member) Take() ([]Op, []Effect) {
	ops, effects := m.ops, m.effects
	m.ops, m.effects = nil, nil
	return ops, effects
}

// Version changes when claims that wait should be made again.
func (m *Member) Version() uint64 { return m.version }

// Deadline is when this proxy stops to trust what it knows, unless a renewal succeeds before. A session compares it with the
// clock before it relays a command; with Hold a timer at this time calls Tick, and all connections are closed within CloseWithin.
func (m *Member) Deadline() time.Time { return m.renewed.Add(m.o.trust()) }

// Trusted reports whether it trusts what it knows.
func (m *Member) Trusted(now time.Time) bool {
	m.at(now)
	return m.phase != outside && m.phase != left && !m.isolated
}

// Tick is the clock. It comes ten times a second, and at Deadline.
func (m *Member) Tick(now time.Time) {
	m.at(now)
	m.pump()
}

// Read is the answer of a watch on the whole prefix. A reading that is older than the last is left out, so that any server may
// be asked (Consul's mode `stale`); after the index has gone back one consistent read has to say so.
func (m *Member) Read(r *Reading, now time.Time) {
	m.at(now)
	m.read(r)
	m.pump()
}

// Unreachable says which backends this proxy can't reach. A login there isn't sent elsewhere by this proxy alone.
func (m *Member) Unreachable(backends []string, now time.Time) {
	m.at(now)
	m.unreachable = sortedCopy(backends)
	m.pump()
}

// Leave begins a clean stop: no claim is answered any more. Once nothing is held, the key is removed and the session ended.
func (m *Member) Leave(now time.Time) {
	m.at(now)
	if m.phase != left {
		m.phase = map[phase]phase{outside: left, inside: leaving, leaving: leaving}[m.phase]
	}
	m.pump()
}

// Left reports whether a clean stop has ended, as far as others are concerned. A last Op ends the session.
func (m *Member) Left() bool { return m.phase == left }

// at notes the time, and stops to trust what isn't renewed.
func (m *Member) at(now time.Time) {
	m.now = now
	if m.phase == outside || m.phase == left || m.isolated || !now.After(m.Deadline()) || !m.has(ruleTrust) {
		return
	}
	m.isolate("its Consul session wasn't renewed in time")
}

func (m *Member) isolate(why string) {
	if m.isolated {
		return
	}
	m.isolated = true
	m.effect(Effect{Kind: Isolated, Text: why})
	if m.o.Isolated == Hold {
		m.effect(Effect{Kind: CloseAll, Text: why})
	}
	m.changed()
}

func (m *Member) back() {
	if m.isolated {
		m.isolated = false
		m.effect(Effect{Kind: Back})
		m.changed()
	}
}

// changed: verdicts have to be judged anew, and claims that wait made again.
func (m *Member) changed() {
	m.stale = true
	m.version++
}

func (m *Member) effect(e Effect) { m.effects = append(m.effects, e) }

func (m *Member) trouble(err error) { m.effect(Effect{Kind: Trouble, Err: err}) }

// send makes a request, unless one for the same purpose is under way or has to wait.
func (m *Member) send(p purpose, op Op) bool {
	if !m.may(p) {
		return false
	}
	m.lastOp++
	op.ID = m.lastOp
	m.flight[op.ID], m.busy[p] = p, true
	m.ops = append(m.ops, op)
	return true
}

func (m *Member) may(p purpose) bool { return !m.busy[p] && !m.now.Before(m.retry[p]) }

// later puts the next request for a purpose off.
func (m *Member) later(p purpose, d time.Duration) { m.retry[p] = m.now.Add(d) }

package agree

import (
	"slices"
	"time"

	"imapproxy/routing"
)

// Member is one proxy's part in the agreement. Its methods are events: each takes the time, changes what the
// Member knows, and leaves requests and effects, which Take returns. No method waits.
//
// A Member is not safe for use by several goroutines: the caller's lock puts each switch at one point in
// time between claims.
type Member struct {
	o       Options
	without rule // rules that this Member leaves out; only tests do
	now     time.Time

	// Its phase and its Consul session.
	phase    phase
	isolated bool      // it doesn't trust what it knows
	removed  bool      // it is outside, and other proxies have removed its key: they may have moved its users
	relock   bool      // its key has to be locked by its new session
	session  string    // of Consul
	renewed  time.Time // when the last successful renewal was sent
	renewAt  time.Time // when the next one is due

	// The fleet that it goes by. The fleet, its tables and overrides belong together and change only in
	// switchTo.
	fleet     *Fleet
	tables    []table
	overrides [maxShards]map[string]string
	switched  time.Time            // when it switched to fleet
	down      map[string]time.Time // backends that the fleet calls down, and since when, by this proxy's clock

	// What it has published. own is the last record that Consul certainly has or had; pending may have been
	// written after it.
	own        *Record
	ownIndex   uint64
	seq        uint64 // of the last record sent
	pending    *Record
	pendingTxn []TxnOp
	fate       fate
	joining    *joining

	// What it has read.
	latest *Reading
	// latestAt is when latest was taken in, wroteAt when ownIndex was.
	latestAt, wroteAt time.Time
	view              *Reading // the last good reading, which claims go by
	void              []uint64 // by bucket: a reading in which this proxy's own record has a lower Seq is void
	orphans           map[string]orphan
	// restored is when this proxy last noticed that Consul's state had been restored from an earlier one.
	restored time.Time
	outage   time.Time         // since when there is no fleet that it can use; zero: there is one
	told     map[string]uint64 // problems reported to the operator, by key: the key's index

	// The users with connections of this proxy, and where they are.
	places   places
	holds    map[string]*hold
	heads    []*hold // by bucket
	usersAt  []int   // by place: how many holds
	free     *hold
	emptied  bool // a stay may have lost its last connection
	letGoAt  time.Time
	asked    map[int]int64        // by bucket: the round of the schedule in which its users were asked to leave
	turnEnds []time.Time          // when turns that have begun will be over, in order
	askedOf  map[string]int64     // by user, for users' own stays
	rests    map[string]bool      // users named in place of their bucket while it rests (Move.Settle)
	namedAt  map[int]time.Time    // by bucket: when it was last replaced by names while it rested
	anew     map[string]anew      // users who are asked to leave once more in the same turn
	lately   map[string]time.Time // users who were asked to leave, and when
	forgetAt time.Time            // when lately is cleaned
	yielding map[string]time.Time // users asked to leave because other proxies have them elsewhere; when they were last asked
	drains   map[string]*draining // by backend: the progress of the fleet's drains at this proxy

	// What claims are answered by.
	stale    bool    // the verdicts were computed before the last change
	gone     []table // of the fleets that proxies go by, as far as the view shows; nil: not all of them are known
	verdicts []verdict
	ownAt    []place
	named    map[string]bool      // users with a stay of their own, or whose overrides differ between the fleets that are kept
	wants    map[string]time.Time // users whose stay at another proxy is to be followed, and until when
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

// phase is a Member's state.
type phase uint8

const (
	outside phase = iota // it has no key that its session holds: it has to join
	inside               // it counts
	leaving              // it counts until it has no connections
	left
)

// fate is the state of the write of the pending record.
type fate uint8

const (
	sent    fate = iota + 1
	unknown      // no answer: it is sent again, unless a reading shows that it was done
	refused      // it wasn't written; a reading says why
)

// purpose is what a request is for. At most one request for each purpose is in progress.
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

// New returns a Member that hasn't joined yet.
func New(o Options, now time.Time) (*Member, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Member{
		o: o, now: now, places: newPlaces(), holds: make(map[string]*hold), heads: make([]*hold, o.Buckets),
		void: make([]uint64, o.Buckets), verdicts: make([]verdict, o.Buckets), ownAt: make([]place, o.Buckets),
		orphans: make(map[string]orphan), told: make(map[string]uint64), down: make(map[string]time.Time),
		asked: make(map[int]int64), rests: make(map[string]bool), namedAt: make(map[int]time.Time), askedOf: make(map[string]int64), anew: make(map[string]anew), yielding: make(map[string]time.Time),
		wants: make(map[string]time.Time), flight: make(map[uint64]purpose), busy: make(map[purpose]bool),
		retry: make(map[purpose]time.Time), stale: true, named: make(map[string]bool), lately: make(map[string]time.Time), drains: make(map[string]*draining),
	}
	m.writer = newWriter()
	m.o.About.Started = now.UnixMilli()
	m.o.About.Settings = m.o.words()
	return m, nil
}

// Take returns the requests to Consul and the effects that the events since the last Take have left. Each
// request is made by itself; the effects are acted on in their order.
func (m *Member) Take() ([]Op, []Effect) {
	ops, effects := m.ops, m.effects
	m.ops, m.effects = nil, nil
	return ops, effects
}

// TTL returns the time to live of this proxy's sessions in Consul.
func (m *Member) TTL() time.Duration { return m.o.TTL }

// Version changes when claims that wait should be made again.
func (m *Member) Version() uint64 { return m.version }

// Deadline returns when this proxy stops trusting what it knows, unless a renewal succeeds before. A session
// compares it with the clock before it relays a command; with Hold, a timer at this time calls Tick, and all
// connections are closed within CloseWithin.
func (m *Member) Deadline() time.Time { return m.renewed.Add(m.o.trust()) }

// Trusted reports whether this proxy trusts what it knows.
func (m *Member) Trusted(now time.Time) bool {
	m.at(now)
	return m.phase != outside && m.phase != left && !m.isolated
}

// Left reports whether a clean stop has ended, as far as other proxies are concerned. One last Op destroys
// the session.
func (m *Member) Left() bool { return m.phase == left }

// at records the time, and isolates this proxy if its deadline is over.
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
	if m.o.Isolated == Hold && m.has(ruleClose) {
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

// changed records that verdicts have to be computed again, and that claims that wait are to be made again.
func (m *Member) changed() {
	m.stale = true
	m.version++
}

func (m *Member) effect(e Effect) { m.effects = append(m.effects, e) }

func (m *Member) trouble(err error) { m.effect(Effect{Kind: Trouble, Err: err}) }

// send makes a request, unless one for the same purpose is in progress or has to wait.
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

// later delays the next request for a purpose.
func (m *Member) later(p purpose, d time.Duration) { m.retry[p] = m.now.Add(d) }

// done reports whether a fleet has the request, or it couldn't be written in time.
func (a *asked) done(m *Member) bool {
	return !m.now.Before(a.until) || slices.ContainsFunc(m.view.Fleet.Kept, func(k Kept) bool { return slices.Contains(a.made, k.Made) })
}

func (m *Member) has(r rule) bool { return m.without&r == 0 }

func (m *Member) separate() bool { return m.o.Storage == routing.Separate }

package agree

import (
	"time"

	"imapproxy/routing"
)

type orphan struct {
	index uint64
	since time.Time
}

// joining is a join in progress: the record, and the reading from which it was made.
type joining struct {
	rec *Record
	by  *Reading
}

// anew is for a user who is asked to leave once more in the same turn, because a connection was made after
// the first time.
type anew struct {
	at    time.Time // when to ask; zero: the user has been asked
	times int
}

// draining is what this proxy knows of a drain in the fleet that it goes by.
type draining struct {
	since int64
	from  time.Time // when this proxy first went by it, by this proxy's clock
	users int       // of this proxy at the backend at that time
	ended map[string]bool
}

// Discovery is an answer of discovery.
type Discovery struct {
	// Index is discovery's own number of the answer; it grows.
	Index uint64
	// Consistent says that the answer comes from the leader. Only a consistent answer may have a lower index
	// than the fleet's.
	Consistent bool
	Backends   []routing.Backend
}

// asked is what all requests to the writer have in common. Each request is written once: if the answer to
// the write was lost, and another proxy has undone the request meanwhile, it must not be written again.
type asked struct {
	until time.Time
	made  []string // the fleets that were made with it (Kept.Made)
}

type request struct {
	to string
	asked
}

const (
	requestFor = time.Minute // a request that couldn't be written by then is given up
	maxChanges = 256         // of overrides, in one fleet
	movePause  = 3           // pause between two rounds of moves, as a multiple of AgreeWithin
	maxCycle   = 24 * 3600 * 1000
)

type sighting struct {
	since int64 // Backend.Since
	at    time.Time
}

// writer has the data from which a proxy makes fleets. Any proxy may write the next fleet; the first write
// wins, and the other proxies then find nothing to do.
type writer struct {
	discovery *Discovery
	// seen is since when this proxy has known a backend's present state in the fleet, by its own clock.
	// Durations are counted from it, never from the times in the record.
	seen map[string]sighting
	// reported is since when most proxies can't reach a backend.
	reported map[string]time.Time
	// moves are the overrides that were asked for: user → backend; "" removes the override.
	moves map[string]*request
	// drains are operators' requests, by backend.
	drains map[string]*drainWish
	pauses map[string]*pauseWish
	// room is memory for the backends of the next fleet, which is computed often and rarely written.
	room []Backend
	// made counts the fleets that this proxy has made; it is part of Kept.Made.
	made uint64 // their number
}

func newWriter() writer {
	return writer{seen: make(map[string]sighting), reported: make(map[string]time.Time), moves: make(map[string]*request), drains: make(map[string]*drainWish), pauses: make(map[string]*pauseWish)}
}

// hold is a user with connections of this proxy, or dials in progress.
type hold struct {
	user       string
	at         place
	bucket     int32
	conns      int32
	ending     int32 // of conns, those that were closed and whose ends haven't been seen
	next, prev *hold // in the bucket
}

// drainWish is a drain that this proxy was asked to begin or end, and that isn't yet in the fleet.
type drainWish struct {
	drain *Drain // nil: the drain is to end
	asked
}

// pauseWish is a pause that this proxy was asked to begin or to end, and that isn't yet in the fleet.
type pauseWish struct {
	pause Pause
	asked
}

// verdict is the answer to claims for the users of a bucket. Users who may have to be judged apart from the
// bucket have verdicts of their own.
type verdict struct {
	kind kind
	at   place
	whom int // index in view.Proxies of the proxy that is followed
}

const (
	gather    = time.Second            // the shortest time between two writes that take out stays
	again     = 200 * time.Millisecond // the pause after a request whose outcome isn't known
	fewUsers  = 16                     // a bucket with so many users or fewer may be replaced by the users' names (rule 7)
	fullNames = 1024                   // a record that names so many users replaces no more buckets
	allNames  = 3000                   // users that all records together name for buckets at rest
	nameAgain = 5 * time.Minute        // a bucket at rest is replaced by names once in this time
)

// shardRoom bounds the keys overrides/NN that one Txn writes, so that it isn't larger than Consul takes.
type shardRoom struct{ keys, bytes int }

func newShardRoom() shardRoom { return shardRoom{62, 128 << 10} }

// take reports whether there is room for a key. There is for one, however large.
func (r *shardRoom) take(users map[string]string) bool {
	size := 0
	for user, backend := range users {
		size += len(user) + len(backend) + len(`"":"",`)
	}
	if r.keys == 0 || r.bytes < size && *r != newShardRoom() {
		return false
	}
	r.keys--
	r.bytes -= size
	return true
}

type kind uint8

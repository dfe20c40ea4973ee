package fair

import (
	pq "container/heap"
	"container/list"
	"net/netip"
	"sync"
)

// Places bound the number of connected clients that haven't authenticated. When all places are taken, the
// network that has most of them loses one: a client that connects and authenticates finds a place however
// many silent clients there are.
//
// Known networks lose none while they have at most half of the places, and while they have more the others
// lose none: clients that guess passwords from many networks don't take the places of networks with users,
// nor does a network with a user take those of the others.
//
// Of a network's clients the oldest that isn't at work loses its place first: a client whose password is
// being checked is about to leave.
//
// A client has its place from Take to Leave, or to its eviction.
type Places struct {
	mu       sync.Mutex                // guards all below; only bookkeeping is done under it
	networks map[netip.Prefix]*holders // those with a client
	others   group
	known    group
	arrivals uint64
}

// group are the networks that are known, or those that aren't.
type group struct {
	busiest byCount
	taken   int
}

// holders has the clients of one network.
type holders struct {
	network netip.Prefix
	group   *group
	clients list.List // of *Place, in the order of their arrival
	working list.List // of *Place, in the order in which they began
	index   int       // in busiest
}

// Place is the place of one client.
type Place struct {
	holders *holders
	element *list.Element // nil after Leave
	working bool          // in which list it is
	arrival uint64
	evict   func() // ends the client; called once, without the lock
}

// NewPlaces returns Places without clients.
func NewPlaces() *Places { return &Places{networks: map[netip.Prefix]*holders{}} }

// Take gives a client a place; known is whether its network is. If more than limit places would be taken,
// Take evicts other clients before it returns: one, or more if the limit has become lower. limit ≤ 0 means no
// limit. evict must not block. evicted is the number of evicted clients.
func (p *Places) Take(client netip.Addr, known bool, limit int, evict func()) (own *Place, evicted int) {
	network := Network(client)
	p.mu.Lock()
	h := p.networks[network]
	if h == nil {
		h = &holders{network: network}
		p.networks[network] = h
	}
	p.arrivals++
	own = &Place{holders: h, arrival: p.arrivals, evict: evict}
	p.outLocked(h)
	own.element = h.clients.PushBack(own)
	h.group = &p.others
	if known {
		h.group = &p.known
	}
	p.inLocked(h)
	var out []*Place
	for limit > 0 && p.others.taken+p.known.taken > limit {
		from := &p.others
		if p.known.taken > limit/2 || from.taken == 0 {
			from = &p.known
		}
		oldest := from.busiest[0].next()
		if e := oldest.holders.working.Front(); oldest == own && e != nil {
			oldest = e.Value.(*Place) // all others of the network are at work
		}
		p.leaveLocked(oldest)
		out = append(out, oldest)
	}
	p.mu.Unlock()
	for _, o := range out {
		o.evict()
	}
	return own, len(out)
}

// Works sets whether a client is at work: its password is being checked.
func (p *Places) Works(own *Place, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if own.element == nil || own.working == on {
		return
	}
	h := own.holders
	p.outLocked(h)
	h.list(own).Remove(own.element)
	own.working = on
	p.arrivals++
	own.arrival = p.arrivals
	own.element = h.list(own).PushBack(own)
	p.inLocked(h)
}

// Leave gives a place back. It may be called more than once, and after the eviction.
func (p *Places) Leave(own *Place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaveLocked(own)
}

// Count returns how many places are taken.
func (p *Places) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.others.taken + p.known.taken
}

func (p *Places) leaveLocked(own *Place) {
	if own.element == nil {
		return
	}
	h := own.holders
	p.outLocked(h)
	h.list(own).Remove(own.element)
	own.element = nil
	p.inLocked(h)
}

// outLocked removes a network from its group, before its clients change.
func (p *Places) outLocked(h *holders) {
	if n := h.count(); n > 0 {
		h.group.taken -= n
		pq.Remove(&h.group.busiest, h.index)
	}
}

// inLocked puts it back. A network without clients is forgotten.
func (p *Places) inLocked(h *holders) {
	n := h.count()
	if n == 0 {
		delete(p.networks, h.network)
		return
	}
	h.group.taken += n
	pq.Push(&h.group.busiest, h)
}

func (h *holders) count() int { return h.clients.Len() + h.working.Len() }

func (h *holders) list(p *Place) *list.List {
	if p.working {
		return &h.working
	}
	return &h.clients
}

// next returns the client that loses its place next.
func (h *holders) next() *Place {
	if e := h.clients.Front(); e != nil {
		return e.Value.(*Place)
	}
	return h.working.Front().Value.(*Place)
}

// byCount is a heap: the network with the most clients is first and, of those with as
// many, the one whose next came first.
type byCount []*holders

func (b byCount) Len() int { return len(b) }

func (b byCount) Less(i, j int) bool {
	if n, m := b[i].count(), b[j].count(); n != m {
		return n > m
	}
	return b[i].next().arrival < b[j].next().arrival
}

func (b byCount) Swap(i, j int) {
	b[i], b[j] = b[j], b[i]
	b[i].index, b[j].index = i, j
}

// Push implements heap.Interface.
func (b *byCount) Push(x any) {
	h := x.(*holders)
	h.index = len(*b)
	*b = append(*b, h)
}

// Pop implements heap.Interface.
func (b *byCount) Pop() any {
	last := len(*b) - 1
	h := (*b)[last]
	(*b)[last] = nil
	*b = (*b)[:last]
	return h
}

package proxy

import (
	pq "container/heap"
	"container/list"
	"net/netip"
	"sync"

	"imapproxy/internal/fair"
)

// places are for the clients that haven't logged in. They are apart from those of
// limits.connections, so that silent connections keep no user out. When all are taken,
// the network that has most of them gives up its oldest: a client that comes
// and logs in finds a place however many silent ones there are.
//
// Who is in it: each connection from its acceptance to the end of its login, or its own.
type places struct {
	mu       sync.Mutex                // guards all below; only bookkeeping is done under it
	networks map[netip.Prefix]*holders // those with a client
	busiest  byCount
	taken    int
	arrivals uint64
}

// holders are the clients of one network, in the order of their arrival.
type holders struct {
	network netip.Prefix
	clients list.List // of *place
	index   int       // in busiest
}

// place is one client's.
type place struct {
	holders *holders
	element *list.Element // nil once it is given back
	arrival uint64
	evict   func() // ends the client; called once, without the lock
}

func newPlaces() *places { return &places{networks: map[netip.Prefix]*holders{}} }

// take gives a client a place. Where more than limit would be taken, the one that has to
// go for it has been evicted when take returns; limit ≤ 0 is none. evict must not
// block. evicted says whether somebody had to go.
func (p *places) take(client netip.Addr, limit int, evict func()) (own *place, evicted bool) {
	network := fair.Network(client)
	p.mu.Lock()
	h := p.networks[network]
	if h == nil {
		h = &holders{network: network}
		p.networks[network] = h
	}
	p.arrivals++
	own = &place{holders: h, arrival: p.arrivals, evict: evict}
	own.element = h.clients.PushBack(own)
	p.taken++
	if h.clients.Len() == 1 {
		pq.Push(&p.busiest, h)
	} else {
		pq.Fix(&p.busiest, h.index)
	}
	var out *place
	if limit > 0 && p.taken > limit {
		out = p.busiest[0].clients.Front().Value.(*place)
		p.leaveLocked(out)
	}
	p.mu.Unlock()
	if out != nil {
		out.evict()
	}
	return own, out != nil
}

// leave gives a place back. It may be called more than once, and after the eviction.
func (p *places) leave(own *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaveLocked(own)
}

// count is how many places are taken.
func (p *places) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

func (p *places) leaveLocked(own *place) {
	if own.element == nil {
		return
	}
	h := own.holders
	h.clients.Remove(own.element)
	own.element = nil
	p.taken--
	if h.clients.Len() > 0 {
		pq.Fix(&p.busiest, h.index)
		return
	}
	pq.Remove(&p.busiest, h.index)
	delete(p.networks, h.network)
}

// byCount is a heap: the network with the most clients is first and, of those with as
// many, the one whose oldest client came first.
type byCount []*holders

func (b byCount) Len() int { return len(b) }

func (b byCount) Less(i, j int) bool {
	if n, m := b[i].clients.Len(), b[j].clients.Len(); n != m {
		return n > m
	}
	return b[i].oldest() < b[j].oldest()
}

func (h *holders) oldest() uint64 { return h.clients.Front().Value.(*place).arrival }

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

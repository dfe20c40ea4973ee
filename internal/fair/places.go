package fair

import (
	pq "container/heap"
	"container/list"
	"net/netip"
	"sync"
)

// Places bound how many strangers are connected at a time: clients that haven't proved
// who they are. When all places are taken, the network that has most of them gives up its
// oldest: a client that comes and proves itself finds a place however many silent
// ones there are.
//
// Who is in it: each connection from Take to Leave, or to its eviction.
type Places struct {
	mu       sync.Mutex                // guards all below; only bookkeeping is done under it
	networks map[netip.Prefix]*holders // those with a client
	busiest  byCount
	taken    int
	arrivals uint64
}

// holders are the clients of one network, in the order of their arrival.
type holders struct {
	network netip.Prefix
	clients list.List // of *Place
	index   int       // in busiest
}

// Place is one client's.
type Place struct {
	holders *holders
	element *list.Element // nil once it is given back
	arrival uint64
	evict   func() // ends the client; called once, without the lock
}

// NewPlaces makes places of which none is taken.
func NewPlaces() *Places { return &Places{networks: map[netip.Prefix]*holders{}} }

// Take gives a client a place. Where more than limit would be taken, those that have to
// go for it have been evicted when Take returns: one, or more where the limit has
// become lower. limit ≤ 0 is none. evict must not block. evicted is how many had to go.
func (p *Places) Take(client netip.Addr, limit int, evict func()) (own *Place, evicted int) {
	network := Network(client)
	p.mu.Lock()
	h := p.networks[network]
	if h == nil {
		h = &holders{network: network}
		p.networks[network] = h
	}
	p.arrivals++
	own = &Place{holders: h, arrival: p.arrivals, evict: evict}
	own.element = h.clients.PushBack(own)
	p.taken++
	if h.clients.Len() == 1 {
		pq.Push(&p.busiest, h)
	} else {
		pq.Fix(&p.busiest, h.index)
	}
	var out []*Place
	for limit > 0 && p.taken > limit {
		oldest := p.busiest[0].clients.Front().Value.(*Place)
		p.leaveLocked(oldest)
		out = append(out, oldest)
	}
	p.mu.Unlock()
	for _, o := range out {
		o.evict()
	}
	return own, len(out)
}

// Leave gives a place back. It may be called more than once, and after the eviction.
func (p *Places) Leave(own *Place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaveLocked(own)
}

// Count is how many places are taken.
func (p *Places) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

func (p *Places) leaveLocked(own *Place) {
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

func (h *holders) oldest() uint64 { return h.clients.Front().Value.(*Place).arrival }

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

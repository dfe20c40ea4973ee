package session

import (
	"context"
	"net/netip"
	"sync"

	lru "github.com/hashicorp/golang-lru"

	"imapproxy/internal/fair"
)

// Places are the resources that clients share before they log in: places for connections and for large
// commands, and the known networks. A network is known for a while after a login from it.
type Places struct {
	clients *fair.Places
	large   *fair.Queue[netip.Prefix] // for commands that are larger than others
	known   *lru.Cache                // by network
	// Placing has the lookups of users' placements.
	Placing *fair.Queue[netip.Prefix]
}

// knownNetworks is how many known networks are remembered; they take 10 MB at most.
const knownNetworks = 1 << 16

// placementsAtATime is how many placements are looked up at a time: as many as discovery has connections for
// (maxPlacementConns). Further ones would wait there in the order of their arrival.
const placementsAtATime = 32

// At most largeAtATime commands that are larger than others are read at a time, largeOfNetwork from one network.
const (
	largeAtATime   = 128
	largeOfNetwork = 8
)

// NewPlaces makes Places without clients.
func NewPlaces() (*Places, error) {
	known, err := lru.New(knownNetworks)
	if err != nil {
		return nil, err
	}
	return &Places{
		clients: fair.NewPlaces(),
		large:   fair.NewQueue[netip.Prefix](fair.Options{Slots: largeAtATime, PerKey: largeOfNetwork}),
		known:   known,
		Placing: fair.NewQueue[netip.Prefix](fair.Options{Slots: placementsAtATime}),
	}, nil
}

// Count returns how many clients have a place.
func (p *Places) Count() int { return p.clients.Count() }

// knows says whether a client has logged in from a network lately.
func (p *Places) knows(network netip.Prefix) bool { return p.known.Contains(network) }

// loggedIn records a login from a network.
func (p *Places) loggedIn(network netip.Prefix) { p.known.Add(network, nil) }

// unprovedLogins are the logins that a backend has been asked to prove, or is about to be. The zero value is
// usable.
type unprovedLogins struct {
	mu     sync.Mutex // guards the fields below
	ofUser map[string]map[*unprovedLogin]struct{}
}

type unprovedLogin struct{ cancel context.CancelCauseFunc }

package discovery

import (
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// tokenReadEvery is the shortest time between two reads of the token file after refusals.
const tokenReadEvery = 10 * time.Second

// sharedClient is the client that all logins use for placements.
type sharedClient struct {
	opts ConsulOptions

	mu        sync.Mutex // guards the fields below
	client    *api.Client
	transport *http.Transport
	made      time.Time
}

func newSharedClient(o ConsulOptions) (*sharedClient, error) {
	client, transport, err := o.newClient(maxPlacementConns)
	if err != nil {
		return nil, err
	}
	return &sharedClient{opts: o, client: client, transport: transport, made: time.Now()}, nil
}

func (s *sharedClient) get() *api.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// refused replaces the client, so that the token file is read again, unless that was done a moment ago.
// Requests in progress finish on the old client.
func (s *sharedClient) refused() {
	s.mu.Lock()
	if time.Since(s.made) < tokenReadEvery {
		s.mu.Unlock()
		return
	}
	s.made = time.Now() // no other goroutine does it meanwhile
	s.mu.Unlock()

	client, transport, err := s.opts.newClient(maxPlacementConns)
	if err != nil {
		return // the next refusal tries again; the caller reports this one
	}
	s.mu.Lock()
	old := s.transport
	s.client, s.transport = client, transport
	s.mu.Unlock()
	old.CloseIdleConnections()
}

// closeIdle closes unused connections.
func (s *sharedClient) closeIdle() {
	s.mu.Lock()
	transport := s.transport
	s.mu.Unlock()
	transport.CloseIdleConnections()
}

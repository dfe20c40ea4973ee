package proxy

import "sync"

// acceptGate holds the listeners' goroutines while the server doesn't accept.
type acceptGate struct {
	mu     sync.Mutex    // guards what follows
	opened chan struct{} // closed while the gate is open
	shuts  bool
	ended  bool
}

func newAcceptGate() *acceptGate {
	g := &acceptGate{opened: make(chan struct{})}
	close(g.opened)
	return g
}

// end ends the wait for good.
func (g *acceptGate) end() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.open()
}

// wait returns when the gate is open; false: the server ends.
func (g *acceptGate) wait() bool {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	<-opened
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.ended
}

// open ends the wait.
func (g *acceptGate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shuts {
		g.shuts = false
		close(g.opened)
	}
}

// shut makes wait wait.
func (g *acceptGate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shuts && !g.ended {
		g.shuts, g.opened = true, make(chan struct{})
	}
}

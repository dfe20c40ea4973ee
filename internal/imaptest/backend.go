package imaptest

import (
	"context"
	"fmt"
	"net"
	"testing"
)

// NewBackend listens on a loopback port of the kernel's choice and gives each
// connection to h. It closes, and waits for its handlers, at the test's end.
func NewBackend(t testing.TB, h Handler) *Backend {
	t.Helper()
	return NewBackendAt(t, "127.0.0.1:0", h)
}

// NewBackendAt is NewBackend on a given address, e.g. that of a backend which
// was closed, to bring it up again.
func NewBackendAt(t testing.TB, addr string, h Handler) *Backend {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &Backend{
		Addr: ln.Addr().String(), t: t, ln: ln, handler: h, ctx: ctx, cancel: cancel,
		conns: map[*BackendConn]struct{}{}, fired: map[string]bool{}, changed: make(chan struct{}),
	}
	b.wg.Add(1)
	go b.accept() // ends when Close closes the listener; Close waits
	t.Cleanup(b.Close)
	return b
}

func (b *Backend) accept() {
	defer b.wg.Done()
	for {
		nc, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		c := newBackendConn(b, nc, b.accepted)
		b.accepted++
		b.conns[c] = struct{}{}
		b.wg.Add(1)
		b.changedLocked()
		b.mu.Unlock()
		go b.serve(c) // ends with its connection; Close closes that and waits
	}
}

func (b *Backend) serve(c *BackendConn) {
	defer b.wg.Done()
	err := b.handler(c)
	_ = c.Conn.Close() // the handler has ended
	b.mu.Lock()
	delete(b.conns, c)
	b.changedLocked()
	b.mu.Unlock()
	if err != nil && !isGone(err) {
		b.t.Errorf("backend %s, connection %d: %v", b.Addr, c.Index, err)
	}
}

// Close stops listening, closes every connection and waits for the handlers.
func (b *Backend) Close() {
	b.cancel()
	_ = b.ln.Close() // a second Close is no error
	b.mu.Lock()
	for c := range b.conns {
		_ = c.Conn.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

// StopListening refuses new connections and keeps those there are.
func (b *Backend) StopListening() { _ = b.ln.Close() }

// CloseConns closes every connection there is (with a RST when reset is
// meant, see BackendConn.Reset for one of them) and keeps listening.
func (b *Backend) CloseConns() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_ = c.Conn.Close()
	}
}

// ResetConns is CloseConns with a RST.
func (b *Backend) ResetConns() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_ = reset(c.Conn)
	}
}

// Fire makes an event happen, for all goroutines that wait for it now or later.
func (b *Backend) Fire(event string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.fired[event] {
		b.fired[event] = true
		b.changedLocked()
	}
}

// Accepted is the number of connections so far.
func (b *Backend) Accepted() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accepted
}

// Open is the number of connections whose handler runs.
func (b *Backend) Open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

// WaitAccepted blocks until n connections were accepted, ever.
func (b *Backend) WaitAccepted(n int) {
	b.t.Helper()
	b.must(b.await(fmt.Sprintf("%d connections", n), func() bool { return b.accepted >= n }))
}

// WaitOpen blocks until exactly n connections are open.
func (b *Backend) WaitOpen(n int) {
	b.t.Helper()
	b.must(b.await(fmt.Sprintf("%d open connections", n), func() bool { return len(b.conns) == n }))
}

// Commands are the commands read so far, of all connections.
func (b *Backend) Commands() []Command {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Command(nil), b.commands...)
}

// ForgetCommands drops the commands read so far: a test that measures memory would count them, and they become more
// the longer it takes.
func (b *Backend) ForgetCommands() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.commands = nil
}

// WaitCommand blocks until a command of this name has come, and returns the
// first one.
func (b *Backend) WaitCommand(name string) Command {
	b.t.Helper()
	var found Command
	b.must(b.await("command "+name, func() bool {
		for _, c := range b.commands {
			if c.Name == name {
				found = c
				return true
			}
		}
		return false
	}))
	return found
}

func (b *Backend) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

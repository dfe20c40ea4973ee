package dev

import (
	"net"
	"sync"
)

// listener tracks its connections, since imapserver doesn't wait for them: it makes it possible that all
// goroutines have ended when Close returns.
type listener struct {
	net.Listener
	wg sync.WaitGroup // one for each connection, until imapserver closes it

	mu sync.Mutex // guards what follows
	// open has the connections that imapserver hasn't closed; shut closes their sockets, so that imapserver
	// notices.
	open   map[*conn]struct{}
	closed bool
}

func newListener(ln net.Listener) *listener {
	return &listener{Listener: ln, open: map[*conn]struct{}{}}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, ln: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = nc.Close() // it has no other user yet
		return nil, net.ErrClosed
	}
	l.open[c] = struct{}{}
	l.wg.Add(1)
	return c, nil
}

// shut stops listening and ends every connection.
func (l *listener) shut() {
	_ = l.Listener.Close() // it may be closed already
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.open {
		_ = c.Conn.Close()
	}
}

// wait returns when imapserver has closed every connection.
func (l *listener) wait() { l.wg.Wait() }

// conn is a connection that tells its listener when imapserver closes it.
type conn struct {
	net.Conn
	ln   *listener
	once sync.Once
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.ln.mu.Lock()
		delete(c.ln.open, c)
		c.ln.mu.Unlock()
		c.ln.wg.Done()
	})
	return err
}

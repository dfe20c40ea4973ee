package dovecotauth

import (
	"context"
	"sync"
	"time"

	"imapproxy/proxy/conn"
)

// Bounds of the connections that wait for their next use. An auth process that was told to reload serves
// the connections made before by its old configuration as long as they last, so none lasts long.
const (
	maxIdle = 16
	maxAge  = time.Minute
)

// pool keeps connections. Each is lent to one login at a time.
type pool struct {
	dial func(context.Context) (*connection, error)

	mu     sync.Mutex // guards what follows
	idle   []*connection
	closed bool
}

// take returns a connection that waits, nil where there is none that is young enough.
func (p *pool) take(now time.Time) *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if now.Sub(c.made) < maxAge {
			return c
		}
		defer c.net.Close() // before the mutex is released; closing a socket doesn't wait
	}
	return nil
}

// give takes a connection back.
func (p *pool) give(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= maxIdle {
		_ = c.net.Close()
		return
	}
	p.idle = append(p.idle, c)
}

// empty closes the connections that wait. After last none waits any more.
func (p *pool) empty(last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		_ = c.net.Close()
	}
	p.idle = nil
	p.closed = p.closed || last
}

// do has f use a connection. Where one that has waited proves dead, f is called once more, with a new one.
func (p *pool) do(ctx context.Context, f func(*connection) error) error {
	for {
		c := p.take(time.Now())
		waited := c != nil
		if c == nil {
			var err error
			if c, err = p.dial(ctx); err != nil {
				return err
			}
		}
		stop := conn.Until(ctx, c.net)
		err := f(c)
		inTime := !stop()
		if inTime && err == nil {
			p.give(c)
			return nil
		}
		_ = c.net.Close()
		if err == nil || !waited || !inTime {
			return err
		}
		p.empty(false) // the others have most likely gone with it
	}
}

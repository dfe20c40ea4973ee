package ldapauth

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"imapproxy/proxy/conn"
	"imapproxy/telemetry"
)

// maxIdle bounds the connections that wait in a pool.
const maxIdle = 16

// pooled is a connection to the directory. An interruption of its socket bounds each use: the library's time-out
// leaves the connection open, on which a late answer would then come.
type pooled struct {
	*ldap.Conn
	net  net.Conn
	used time.Time
}

// pool keeps connections that are all bound alike. Each is lent to one login at a time.
type pool struct {
	dial func(context.Context) (*pooled, error)

	mu     sync.Mutex // guards what follows
	idle   []*pooled  // the last used is the last
	closed bool
}

func newPool(dial func(context.Context) (*pooled, error)) *pool { return &pool{dial: dial} }

// dial connects, and binds where there is a DN.
func dial(ctx context.Context, u *url.URL, o Options, dn string, password telemetry.Secret) (*pooled, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"ldap": "389", "ldaps": "636"}[u.Scheme]
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	// Until it is bound, and also where the peer stops in the middle of a handshake.
	defer conn.Until(ctx, raw)()
	config := &tls.Config{ServerName: u.Hostname(), RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12}
	nc := raw
	if u.Scheme == "ldaps" {
		secure := tls.Client(raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		nc = secure
	}
	l := ldap.NewConn(nc, u.Scheme == "ldaps")
	l.Start()
	if o.StartTLS {
		err = l.StartTLS(config)
	}
	if err == nil && dn != "" {
		if err = l.Bind(dn, password.Reveal()); err != nil {
			err = &serviceBind{err}
		}
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &pooled{Conn: l, net: raw}, nil
}

// do lends f a connection. Where one that has waited proves dead, f is tried once more on a new one.
func (p *pool) do(ctx context.Context, f func(*ldap.Conn) error) error {
	for {
		c := p.take()
		waited := c != nil
		if c == nil {
			var err error
			if c, err = p.dial(ctx); err != nil {
				return err
			}
		}
		stop := conn.Until(ctx, c.net)
		err := f(c.Conn)
		inTime := !stop()
		broken := ldap.IsErrorWithCode(err, ldap.ErrorNetwork) || c.IsClosing()
		if inTime && !broken {
			p.give(c)
			return err
		}
		_ = c.Close()
		if !waited || !inTime || err == nil {
			return err
		}
		p.forget() // the others have most likely gone with it
	}
}

// take is a connection that waits, nil where there is none.
func (p *pool) take() *pooled {
	p.mu.Lock()
	var old []*pooled
	defer func() {
		p.mu.Unlock()
		closeAll(old)
	}()
	for len(p.idle) > 0 {
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if time.Since(c.used) < idleFor && !c.IsClosing() {
			return c
		}
		old = append(old, c)
	}
	return nil
}

// give takes a connection back.
func (p *pool) give(c *pooled) {
	c.used = time.Now()
	p.mu.Lock()
	full := p.closed || len(p.idle) >= maxIdle
	if !full {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if full {
		_ = c.Close()
	}
}

// forget closes what waits.
func (p *pool) forget() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	closeAll(idle)
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.forget()
}

func closeAll(conns []*pooled) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// idleFor is how long a connection may wait for its next use. Active Directory closes those that are
// idle for 15 minutes, and many firewalls forget them earlier.
const idleFor = 5 * time.Minute

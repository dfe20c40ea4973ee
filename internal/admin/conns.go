package admin

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"

	"imapproxy/internal/fair"
)

// listener bounds the number of connections, so that connections without a token don't keep others out, such
// as a probe's or a backend's events. Each connection first has a place among those without a token; when all
// places are taken, the oldest connection of the network that has most of them is closed. With its first
// request with a right token, a connection moves to a place among those with a token.
type listener struct {
	net.Listener
	strangers, known *fair.Places
	limit            int // of each
}

func newListener(ln net.Listener, limit int) *listener {
	return &listener{Listener: ln, strangers: fair.NewPlaces(), known: fair.NewPlaces(), limit: limit}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &serverConn{Conn: nc, listener: l}
	place, _ := l.strangers.Take(c.client(), false, l.limit, c.evict)
	c.place.Store(&holding{l.strangers, place})
	return c, nil
}

// serverConn is a connection and its place. http.Server closes it.
type serverConn struct {
	net.Conn
	listener *listener
	place    atomic.Pointer[holding]
	closed   atomic.Bool
}

// holding is a place and the Places that it belongs to.
type holding struct {
	places *fair.Places
	place  *fair.Place
}

// Close implements net.Conn.
func (c *serverConn) Close() error {
	c.closed.Store(true)
	h := c.place.Load()
	h.places.Leave(h.place)
	return c.Conn.Close()
}

// evict closes the connection, also during a request: a client without a token can repeat its request.
func (c *serverConn) evict() { _ = c.Conn.Close() }

func (c *serverConn) client() netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr()
	}
	return netip.Addr{}
}

// knows moves the connection to those with a token. The connection's requests call it, of which there is one
// at a time.
func (c *serverConn) knows() {
	h := c.place.Load()
	if h.places == c.listener.known {
		return
	}
	place, _ := c.listener.known.Take(c.client(), false, c.listener.limit, c.evict)
	c.place.Store(&holding{c.listener.known, place})
	h.places.Leave(h.place)
	if c.closed.Load() { // by the server's end, which may have released the former place
		c.listener.known.Leave(place)
	}
}

// connKey is the context key of a request's *serverConn.
type connKey struct{}

// withConn is http.Server's ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// proven records that the request has a right token.
func proven(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*serverConn); ok {
		c.knows()
	}
}

// proving wraps a handler that checks a token itself: a request that is answered with success has a right
// one.
func proving(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(s, r)
		if s.status/100 == 2 {
			proven(r)
		}
	})
}

// statusWriter remembers the status that was written.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController find the connection's deadlines.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

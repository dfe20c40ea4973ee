package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/pires/go-proxyproto"

	"imapproxy/internal/fair"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// A dead client is found by keepalive: it is probed after two to three minutes of silence, and the connection fails after four.
var probing = conn.Probing{Idle: 2 * time.Minute, Interval: 10 * time.Second, Within: 4 * time.Minute}

// proxyHeaderTimeout bounds the wait for a trusted address's PROXY header.
const proxyHeaderTimeout = 5 * time.Second

func newListenerSettings(s *Server, o ListenerOptions) (*listenerSettings, error) {
	ls := &listenerSettings{ListenerOptions: o}
	if o.TLS == session.TLSNone {
		return ls, nil
	}
	certs, err := newCertificates(o.Certificates, s.tel.Log.With("listener", o.Name))
	if err != nil {
		return nil, err
	}
	ls.certs, ls.tls = certs, certs.config(o.MinVersion, o.CBC)
	if o.ClientCertificates != nil {
		if ls.clients, err = newClientCerts(*o.ClientCertificates, ls.tls, s.tel.Log.With("listener", o.Name)); err != nil {
			return nil, err
		}
		ls.tls = ls.clients.config()
	}
	return ls, nil
}

// sessions returns the settings for the listener's sessions.
func (ls *listenerSettings) sessions() session.ListenerSettings {
	set := session.ListenerSettings{TLS: ls.tls, CleartextFrom: ls.CleartextFrom, TrustedProxies: ls.TrustedProxies,
		Compress: ls.Compress, CompressHistory: ls.CompressHistory}
	if ls.certs != nil {
		set.EndPoints = ls.certs.endPoints
	}
	if ls.clients != nil {
		set.Certified = ls.clients.user
	}
	return set
}

// refresh reads the listener's files again. changed says that clients' certificates may not be good any more.
func (ls *listenerSettings) refresh() (changed bool) {
	if ls.certs != nil {
		ls.certs.refresh()
	}
	return ls.clients != nil && ls.clients.refresh()
}

func newListener(s *Server, o ListenerOptions) (*listener, error) {
	ls, err := newListenerSettings(s, o)
	if err != nil {
		return nil, err
	}
	l := &listener{srv: s, opts: o, of: session.NewListener(o.Name, o.TLS, ls.sessions())}
	l.set.Store(ls)
	return l, nil
}

// use replaces the settings.
func (l *listener) use(ls *listenerSettings) {
	l.set.Store(ls)
	l.of.Set(ls.sessions())
}

// ListenError means that an address can't be listened on.
type ListenError struct {
	Listener string // its name
	Err      error
}

func (e *ListenError) Error() string { return fmt.Sprintf("listener %q: %v", e.Listener, e.Err) }

// Unwrap returns the network's error.
func (e *ListenError) Unwrap() error { return e.Err }

func (l *listener) bind(ctx context.Context) error {
	listen := l.srv.set.Load().Listen
	if listen == nil {
		listen = bind
	}
	ln, err := listen(ctx, l.opts.Name, l.opts.Address)
	if err != nil {
		return &ListenError{Listener: l.opts.Name, Err: err}
	}
	l.tcp = ln
	return nil
}

// bind is Options.Listen where there is none.
func bind(ctx context.Context, _, address string) (*net.TCPListener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// accept serves connections until the listener is closed; it pauses while the gate is shut. ctx bounds the sessions before login.
func (l *listener) accept(ctx context.Context) error {
	pause := time.Duration(0)
	for {
		tcp, err := l.tcp.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded): // Pause
			if !l.srv.accepts.wait() {
				return nil
			}
			continue
		case err != nil:
			// The shortage ends when sessions end. The pool may have connections whose descriptors can be
			// freed.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			if of := upstream.ShortageOf(err); of != "" {
				l.srv.tel.Shortage(of, telemetry.ShortageAtAccept, err)
				if pool := l.srv.set.Load().Park.Pool; pool != nil {
					pool.CloseOldest(1)
				}
			} else {
				l.srv.tel.Log.Error("accept failed, trying again", "listener", l.opts.Name, "error", err, "in", pause)
			}
			l.srv.tel.Refused("accept_error")
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		pause = 0
		l.srv.sessions.Add(1) // undone by gone, or by welcome if there is no session
		go l.welcome(ctx, tcp)
	}
}

// welcome makes a session of a connection, and serves it up to its login.
func (l *listener) welcome(ctx context.Context, tcp *net.TCPConn) {
	s, err := l.session(ctx, tcp)
	if err != nil {
		l.srv.tel.Log.Debug("connection refused", "listener", l.opts.Name, "client", tcp.RemoteAddr(), "error", err)
		_ = tcp.Close()
		l.srv.sessions.Done()
		return
	}
	s.Live(ctx)
}

// session reads the PROXY header, if one is due, and admits the client.
func (l *listener) session(ctx context.Context, tcp *net.TCPConn) (*session.Session, error) {
	set := l.set.Load()
	c, err := conn.New(tcp)
	if err != nil {
		return nil, err
	}
	if err := c.KeepAlive(probing); err != nil {
		return nil, err
	}
	from := session.Origin{Addr: addrPort(tcp.RemoteAddr()), Local: addrPort(tcp.LocalAddr())}
	if fair.In(set.ProxyTrusted, from.Addr.Addr()) {
		if from, err = proxyHeader(ctx, c, from, set.TLSFromProxy && l.opts.TLS != session.TLSImplicit); err != nil {
			l.srv.tel.Refused(string(session.ReasonProxyHeader))
			return nil, err
		}
	}
	all := l.srv.set.Load()
	if over := l.srv.reg.Admit(from.Addr.Addr(), all.Limits, all.Dialer.Open()); over != "" {
		l.srv.tel.Refused(over)
		if over == "descriptors" {
			l.srv.tel.Shortage("descriptors", telemetry.ShortageAtAccept,
				fmt.Errorf("clients are refused: the process may have %d files open, more with LimitNOFILE= or ulimit -n", all.Limits.Descriptors))
		}
		l.turnAway(ctx, c, from.Addr.Addr())
		return nil, fmt.Errorf("over limits.%s", over)
	}
	return session.New(l.srv.env, l.of, c, from), nil
}

// Bounds for telling clients that there is no place: how many at a time, in total and of one network, and for
// how long; under TLS it takes a handshake. Other connections are closed without a BYE.
const (
	refusalsAtATime   = 64
	refusalsOfNetwork = 8
	refusalIn         = 2 * time.Second
)

func newRefusals() *fair.Queue[netip.Prefix] {
	return fair.NewQueue[netip.Prefix](fair.Options{Slots: refusalsAtATime, PerKey: refusalsOfNetwork})
}

// turnAway sends BYE to a client that isn't admitted. It doesn't close the connection.
func (l *listener) turnAway(ctx context.Context, c *conn.Conn, client netip.Addr) {
	network := fair.Network(client)
	if !l.srv.refusals.TryAcquire(network) {
		return
	}
	defer l.srv.refusals.Release(network)
	ctx, cancel := context.WithTimeout(ctx, refusalIn)
	defer cancel()
	defer c.Until(ctx)()
	if l.opts.TLS == session.TLSImplicit {
		if _, ok := l.srv.env.MayHandshake(l.of, client); !ok || c.Server(ctx, l.set.Load().tls) != nil {
			return
		}
	}
	if _, err := c.Write([]byte(session.ReasonLimit.Bye())); err != nil || c.CloseWrite() != nil {
		return
	}
	c.Discard(time.Now().Add(refusalIn))
}

// proxyHeader reads the PROXY protocol's header, v1 or v2, and returns what it says. A LOCAL header (a
// load balancer's health check) and one without addresses have none: then the connection's own addresses
// count. withTLS: what it says of the client's TLS counts.
func proxyHeader(ctx context.Context, c *conn.Conn, from session.Origin, withTLS bool) (session.Origin, error) {
	ctx, cancel := context.WithTimeout(ctx, proxyHeaderTimeout)
	defer cancel()
	stop := c.Until(ctx)
	defer stop()
	r := bufio.NewReaderSize(c, 4096)
	h, err := proxyproto.Read(r)
	if err != nil {
		return from, fmt.Errorf("PROXY header: %w", err)
	}
	rest, _ := r.Peek(r.Buffered())
	c.Unread(rest)
	if h.Command.IsLocal() {
		return from, nil
	}
	if src, dst, ok := h.TCPAddrs(); ok {
		from.Addr, from.Local = addrPort(src), addrPort(dst)
	}
	if withTLS {
		if from.TLS, err = upstream.TLSIn(h); err != nil {
			return from, fmt.Errorf("PROXY header: %w", err)
		}
	}
	return from, nil
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

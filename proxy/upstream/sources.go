package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sources dials from several local addresses in turn: a connection's local port must be free for its pair of
// addresses, so each address adds as many connections to one backend as there are local ports. A nil *Sources
// dials from the address that the system chooses.
type Sources struct {
	addrs []netip.Addr
	next  atomic.Uint32
	dial  func(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error)
}

// NewSources returns Sources with these addresses; nil if there are none. It fails for an address that isn't
// this machine's.
func NewSources(addrs []netip.Addr) (*Sources, error) {
	if len(addrs) == 0 {
		return nil, nil
	}
	for _, a := range addrs {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
		if err != nil {
			return nil, fmt.Errorf("%v can't be used here: %w", a, err)
		}
		_ = l.Close()
	}
	return &Sources{addrs: addrs, dial: func(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
		return d.DialContext(ctx, network, address)
	}}, nil
}

// DialContext connects from the next address, and from the one after it if that has no free port.
func (s *Sources) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if s == nil {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	first := s.next.Add(1) - 1
	var err error
	for i := range uint32(len(s.addrs)) {
		from := s.addrs[(first+i)%uint32(len(s.addrs))]
		d := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Control: portLate}
		var c net.Conn
		if c, err = s.dial(ctx, d, network, address); err == nil || ShortageOf(err) != "ports" {
			return c, err
		}
	}
	return nil, err
}

// portLate makes the system choose the port at the connect, when the peer is known. Otherwise one port could
// serve only one connection, to any backend.
func portLate(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) // since Linux 4.2
	})
}

package handover

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Socket is a listening socket. It has a descriptor of its own, so it stays open when the listener that it was
// made of is closed.
type Socket struct {
	// Name is the listener's name, or what systemd calls it (FileDescriptorName=).
	Name string
	// Address is the address in the configuration of the process that bound it; "": unknown.
	Address string
	fd      int // -1: taken, or closed
}

// Of returns a Socket for a listener. The caller still owns the listener.
func Of(name, address string, l *net.TCPListener) (*Socket, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Socket{Name: name, Address: address, fd: -1}
	var dup error
	// File would do as well, but its Fd may set the socket to blocking mode, for all processes that have it.
	if err := raw.Control(func(fd uintptr) { s.fd, dup = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	return s, dup
}

// close closes the descriptor, unless it was taken.
func (s *Socket) close() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
}

// listener makes a listener of the socket, whose descriptor is closed.
func (s *Socket) listener() (*net.TCPListener, error) {
	f := os.NewFile(uintptr(s.fd), s.Name)
	s.fd = -1
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("the socket %q: %w", s.Name, err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, fmt.Errorf("the socket %q isn't of TCP", s.Name)
	}
	return tcp, nil
}

// bound returns the address to which the socket is bound; nil: it isn't a TCP socket that listens.
func (s *Socket) bound() *net.TCPAddr {
	if on, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return nil
	}
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return nil
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	}
	return nil
}

// Sockets are listening sockets that wait for the listeners that use them. The zero value has none. It isn't
// safe for use by several goroutines.
type Sockets struct{ all []*Socket }

// Activated returns the sockets that systemd has passed to this process (LISTEN_FDS, LISTEN_FDNAMES). The
// variables are removed, so that no child takes the sockets for its own.
func Activated() *Sockets {
	s := &Sockets{}
	for _, f := range activation.Files(true) {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			s.all = append(s.all, &Socket{Name: f.Name(), fd: fd})
		}
		_ = f.Close()
	}
	return s
}

// Add adds sockets; those that were there before are taken first.
func (s *Sockets) Add(more ...*Socket) { s.all = append(s.all, more...) }

// Take returns the listener for an address of the configuration, nil if there is none. In order:
//
//	the socket has this name, and this address in the configuration of the process before
//	the socket is bound to this address
//	it is the only one with this name, and no process says what it was configured as (systemd)
func (s *Sockets) Take(name, address string) (*net.TCPListener, error) {
	i := slices.IndexFunc(s.all, func(o *Socket) bool { return o.Name == name && o.Address == address && address != "" })
	if i < 0 {
		i = slices.IndexFunc(s.all, func(o *Socket) bool { return isBoundTo(o.bound(), address) })
	}
	if i < 0 {
		i = s.onlyOne(name)
	}
	if i < 0 {
		return nil, nil
	}
	one := s.all[i]
	s.all = slices.Delete(s.all, i, i+1)
	return one.listener()
}

// onlyOne returns the index of the only socket with a name among those of systemd, else -1.
func (s *Sockets) onlyOne(name string) int {
	found := -1
	for i, o := range s.all {
		if o.Name != name || o.Address != "" {
			continue
		}
		if found >= 0 {
			return -1
		}
		found = i
	}
	return found
}

// isBoundTo says whether a socket's address is the one that a configuration names. Port 0 names none.
func isBoundTo(is *net.TCPAddr, address string) bool {
	wanted, err := net.ResolveTCPAddr("tcp", address)
	if is == nil || err != nil || wanted.Port == 0 || wanted.Port != is.Port {
		return false
	}
	if wanted.IP == nil || wanted.IP.IsUnspecified() {
		// 0.0.0.0 doesn't take IPv6, and isn't what ":993" or "[::]:993" means.
		return is.IP.IsUnspecified() && (!strings.HasPrefix(address, "0.0.0.0:") || is.IP.To4() != nil)
	}
	return is.IP.Equal(wanted.IP)
}

// Left returns the names and addresses of the sockets that no listener has taken.
func (s *Sockets) Left() (left []string) {
	for _, o := range s.all {
		left = append(left, strings.TrimSpace(o.Name+" "+addressOf(o)))
	}
	return left
}

func addressOf(o *Socket) string {
	if a := o.bound(); a != nil {
		return a.String()
	}
	return "not a listening TCP socket"
}

// Merge adds the sockets of another set, which is empty then.
func (s *Sockets) Merge(o *Sockets) {
	s.Add(o.all...)
	o.all = nil
}

// Rest returns listeners for all TCP sockets that none has taken, and leaves none.
func (s *Sockets) Rest() (all []*net.TCPListener) {
	for _, o := range s.all {
		if o.bound() == nil {
			continue
		}
		if l, err := o.listener(); err == nil {
			all = append(all, l)
		}
	}
	s.Close()
	return all
}

// Close closes the sockets that no listener has taken. A nil set has none.
func (s *Sockets) Close() {
	if s == nil {
		return
	}
	for _, o := range s.all {
		o.close()
	}
	s.all = nil
}

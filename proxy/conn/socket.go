package conn

import (
	"net"
	"time"
)

// socket is what a tls.Conn reads from: the TCP connection, in one of two
// modes. Blocking, with deadlines, until the relay begins; then, inside a
// Pump's callback, the bare descriptor, where an empty socket is errEmpty.
//
// Deadlines that tls.Conn sets, around close_notify, take no interruption back.
//
// tls.Conn takes an error whose Temporary() is true as passing: what it has of
// a record is kept and the next Read goes on from there.
type socket struct {
	tcp   *net.TCPConn
	of    *interruption // its connection's
	fd    int           // ≥ 0 only within a Pump's callback
	pump  bool          // fd counts
	ahead []byte        // read ahead of tls.Conn; empty whenever a Pump waits
	buf   []byte        // where ahead lies, lent by the Pump
	first []byte        // bytes taken from the socket before TLS began
}

func (s *socket) Read(p []byte) (int, error) {
	if len(s.first) > 0 {
		n := copy(p, s.first)
		if s.first = s.first[n:]; len(s.first) == 0 {
			s.first = nil // the array behind it would stay with an idle session
		}
		return n, nil
	}
	if !s.pump {
		return s.tcp.Read(p)
	}
	if len(s.ahead) == 0 {
		n, err := readNow(s.fd, s.buf)
		if err != nil {
			return 0, err
		}
		s.ahead = s.buf[:n]
	}
	n := copy(p, s.ahead)
	s.ahead = s.ahead[n:]
	return n, nil
}

func (s *socket) Write(p []byte) (int, error)        { return s.tcp.Write(p) }
func (s *socket) Close() error                       { return s.tcp.Close() }
func (s *socket) LocalAddr() net.Addr                { return s.tcp.LocalAddr() }
func (s *socket) RemoteAddr() net.Addr               { return s.tcp.RemoteAddr() }
func (s *socket) SetDeadline(t time.Time) error      { return s.of.limit(s.tcp, Both, t) }
func (s *socket) SetReadDeadline(t time.Time) error  { return s.of.limit(s.tcp, Reads, t) }
func (s *socket) SetWriteDeadline(t time.Time) error { return s.of.limit(s.tcp, Writes, t) }

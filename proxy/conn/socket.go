package conn

import (
	"bytes"
	"net"
	"syscall"
	"time"
)

// socket is the net.Conn below a tls.Conn: the TCP connection, in one of two modes. Outside of a Pump it
// blocks and has deadlines. Inside a Pump's callback it reads the bare descriptor, and errEmpty means an
// empty socket.
//
// Deadlines that tls.Conn sets for close_notify don't end an interruption.
//
// tls.Conn treats an error whose Temporary method returns true as passing: it keeps the bytes of an
// incomplete record, and the next Read continues from there.
type socket struct {
	tcp   *net.TCPConn
	raw   syscall.RawConn // tcp's
	of    *interruption   // of the Conn
	pump  *lent           // set while a Pump's callback runs
	first []byte          // bytes taken from the socket before tls.Conn reads them
	// layout is that of the Pool by which ciphers were put away; nil: none were.
	layout *tlsLayout
	// ciphertext is the buffer of tls.Conn for incomplete records; nil if the field of tls.Conn isn't known.
	ciphertext *bytes.Buffer
}

func (s *socket) Read(p []byte) (int, error) {
	if len(s.first) > 0 {
		n := copy(p, s.first)
		if s.first = s.first[n:]; len(s.first) == 0 {
			s.first = nil // its array would remain with an idle session
		}
		return n, nil
	}
	u := s.pump
	if u == nil {
		return s.tcp.Read(p)
	}
	if len(u.ahead) == 0 {
		n, err := 0, u.failed
		if err == nil {
			n, err = readNow(u.fd, u.buf)
		}
		if err != nil {
			return 0, err
		}
		u.ahead = u.buf[:n]
	}
	n := copy(p, u.ahead)
	u.ahead = u.ahead[n:]
	return n, nil
}

// lent is what a socket has while a Pump's callback runs. It is among the Pump's buffers, so that an idle connection doesn't have it.
type lent struct {
	fd     int
	ahead  []byte // ciphertext that tls.Conn hasn't read yet
	buf    []byte // the array of ahead
	failed error  // of a read ahead: the kernel tells a connection's failure once, and an end of the stream after that
}

// isAhead says whether ciphertext was read from the socket that tls.Conn hasn't read yet.
func (s *socket) isAhead() bool { return len(s.first) > 0 || s.pump != nil && len(s.pump.ahead) > 0 }

// stash ends a Pump's callback. It saves the ciphertext that was read ahead, since the buffer goes back to the pool.
func (s *socket) stash() {
	if s.pump != nil && len(s.pump.ahead) > 0 {
		s.first = append(s.first, s.pump.ahead...)
	}
	s.pump = nil
}

func (s *socket) Write(p []byte) (int, error)        { return writeAll(s.tcp, s.raw, p) }
func (s *socket) Close() error                       { return s.tcp.Close() }
func (s *socket) LocalAddr() net.Addr                { return s.tcp.LocalAddr() }
func (s *socket) RemoteAddr() net.Addr               { return s.tcp.RemoteAddr() }
func (s *socket) SetDeadline(t time.Time) error      { return s.of.limit(s.tcp, Both, t) }
func (s *socket) SetReadDeadline(t time.Time) error  { return s.of.limit(s.tcp, Reads, t) }
func (s *socket) SetWriteDeadline(t time.Time) error { return s.of.limit(s.tcp, Writes, t) }

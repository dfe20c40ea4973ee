package conn

import (
	"bytes"
	"net"
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
	of    *interruption // of the Conn
	fd    int           // valid only if pump is set
	pump  bool          // a Pump's callback runs
	ahead []byte        // ciphertext that tls.Conn hasn't read yet; empty whenever a Pump waits
	buf   []byte        // the array of ahead, one of the Pump's buffers
	first []byte        // bytes taken from the socket before tls.Conn reads them
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

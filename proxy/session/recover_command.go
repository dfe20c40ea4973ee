package session

import (
	"bytes"
	"errors"
	"io"
	"os"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/wire"
)

// When the backend connection is lost, the client may be in the middle of a command. The rest of that command
// has to be read before anything else can be answered: it may be a message's text.

// maxTaken bounds the commands that are taken after a loss because they had arrived before the client could
// read that an earlier one was refused.
const maxTaken = 256

// readOut reads the rest of the command that the client was sending when the backend connection was lost. A
// client that waits to send a literal isn't waited for: its command is sent again, and the next backend
// connection asks for the literal. It returns false if the session ends.
func (s *Session) readOut() bool {
	f := &s.up
	f.gone, f.err = true, nil
	if f.awaiting {
		f.awaiting = false
		if s.inFlight.LiteralLost() {
			f.scan.Abandon()
			f.last(s.env.Now())
		}
	}
	for !f.scan.AtStart() {
		if err := s.take((*conn.Conn).Pump); err != nil {
			return false
		}
	}
	return true
}

// takeArrived takes the commands that have arrived: the client wrote them before it could read an answer that is
// written now. They become commands in progress that the lost backend never saw. It stops before IDLE, LOGOUT
// and what the proxy answers itself. It returns false if the session ends, since more may follow.
func (s *Session) takeArrived() bool {
	f := &s.up
	for range maxTaken {
		err := s.take((*conn.Conn).Drain)
		switch {
		case errors.Is(err, conn.ErrDry) && f.scan.AtStart() && len(s.client.Kept()) == 0:
			return true
		case errors.Is(err, conn.ErrDry):
			err = s.take((*conn.Conn).Pump)
		}
		if err != nil {
			return false
		}
		if f.left {
			b := s.client.PutBack()
			if bytes.HasSuffix(b, []byte("\n")) && len(wire.FirstLine(b)) == len(b) && !s.client.Arrived() {
				return true
			}
			break
		}
	}
	s.Terminate(ReasonBackendLost)
	return false
}

// take passes the client's bytes to s.up until a command has ended. The error is conn.ErrDry, or the session
// ends.
func (s *Session) take(pump func(*conn.Conn, *conn.Pool, conn.Receiver) error) error {
	f := &s.up
	for f.over = false; ; {
		err := pump(s.client, s.env.Buffers, f)
		switch {
		case s.Reason() != "":
			return errSessionOver
		case f.refused != nil:
			s.clientBroke()
			return f.refused
		case err == nil, errors.Is(err, conn.ErrDry):
			return err
		case errors.Is(err, os.ErrDeadlineExceeded): // a signal that has no meaning here
			if !s.rearmed() {
				return errSessionOver
			}
		case errors.Is(err, io.EOF):
			s.Terminate(ReasonClientClosed)
			return err
		default:
			s.Terminate(s.clientLost(err))
			return err
		}
	}
}

// rearmed clears the interruption of the client's connection. It returns false if the session ends.
func (s *Session) rearmed() bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	if s.Reason() != "" {
		return false
	}
	s.client.Rearm(conn.Reads)
	return true
}

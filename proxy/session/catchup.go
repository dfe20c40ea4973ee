package session

import (
	"errors"
	"io"
	"os"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// catchUp relays while the client counts messages that its backend no longer has: one command at a time, with
// message numbers translated in both directions, until a command allows that the client is told. Then the
// normal relay follows.
func (s *Session) catchUp() phase {
	o := catchUp{
		s: s, n: s.park.deferred.n, deferred: s.park.deferred, before: &s.park.deferred.view.UIDs, modSeq: s.park.deferred.view.ModSeq,
		backend: wire.NewReader(s.backend.Load(), maxCatchUpAnswer, maxCatchUpLiteral),
	}
	o.client = wire.NewReader(wholeCommands{&o}, maxCatchUpLine, maxCatchUpLiteral)
	s.park.deferred = nil
	for {
		relay, err := o.command()
		if o.rearmed {
			o.rearmed = false
			s.stopsReading()
		}
		if s.Reason() != "" {
			return phaseEnd
		}
		if err != nil && (o.backendFailed || s.losing()) && o.survives() {
			s.down.ended = o.backendFailed && endSeen(err)
			return s.lost()
		}
		if err != nil {
			s.Terminate(o.endOf(err))
			return phaseEnd
		}
		if relay {
			s.up.since = o.began
			s.inFlight.Client.ForgetFlags() // flags that passed here weren't recorded
			return phaseRelay
		}
	}
}

// survives says whether the session goes on if its backend connection is lost now. If so, it records what
// recovery needs: which messages the client counts, and the client's bytes that haven't been handled.
func (o *catchUp) survives() bool {
	s := o.s
	if o.partly || !s.survives() {
		return false
	}
	o.counts()
	s.inFlight.Client.ForgetFlags()
	s.client.Unread(o.client.Buffered())
	return true
}

// wholeCommands reads from the client. The loss of the backend connection interrupts it only between two commands: the rest of one may be a
// message's text, and its answer is due.
type wholeCommands struct{ o *catchUp }

func (r wholeCommands) Read(b []byte) (int, error) {
	for s := r.o.s; ; {
		n, err := s.client.Read(b)
		if n > 0 || !r.o.partly || !errors.Is(err, os.ErrDeadlineExceeded) || !s.losing() || !s.rearmed() {
			return n, err
		}
		r.o.rearmed = true
	}
}

// stopsReading interrupts the client's connection again, if the backend connection is still to be given up.
func (s *Session) stopsReading() {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	if s.control.pending&sigLost != 0 && s.Reason() == "" {
		s.interruptLocked(conn.Reads)
	}
}

// noticeBackend signals the loss of the backend connection to a session in catch-up whose client is silent:
// the owner waits for the client and reads nothing from the backend. The sweep calls it.
func (s *Session) noticeBackend() {
	if Attachment(s.attachment.Load()) != CatchingUp || s.inFlight.Waiting() > 0 {
		return
	}
	ended := false
	s.onBackend(func(b *upstream.Conn) { ended = b.Ended() })
	if ended {
		s.Signal(sigLost)
	}
}

func (o *catchUp) endOf(err error) Reason {
	switch {
	case o.backendFailed && !o.s.out.atBoundary():
		return ReasonBackendLostInner
	case o.backendFailed, o.s.losing():
		return o.s.lostBackend()
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return ReasonClientClosed
	case errors.Is(err, wire.ErrLineTooLong) || errors.Is(err, wire.ErrLiteralTooLong) || errors.Is(err, wire.ErrNUL):
		return ReasonClientProtocol
	}
	return o.s.clientLost(err)
}

package session

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// passOn passes a response to the proxy's own commands on to the client, like any other response.
func (s *Session) passOn(response []byte) {
	h := wire.ParseResponseHead(response)
	if h.Status == wire.BYE {
		keeps := s.keepsBye(h)
		s.inFlight.SawBye(keeps)
		if keeps {
			s.down.farewell = bytes.Clone(response)
			return
		}
	}
	s.inFlight.Untagged(h, true)
	if f := (track.FetchResponse{}); f.Begins(h) {
		f.Whole(response)
		s.inFlight.Fetched(&f)
	}
	s.down.write(response, true)
}

// backToIdle puts the backend into IDLE for a session that is attached again. It ends the session if the backend refuses IDLE. A
// relay follows, which notices by itself that the connection has ended, or is given up: the session then goes on with another one.
func (s *Session) backToIdle(c *upstream.Conn) {
	heard := s.env.Now()
	stop := s.reassures(&heard, false)
	err := s.idleAgain(c, track.ModeIdle, cmp.Or(s.settings().Park.ResumeTry, DefaultResumeTry))
	stop()
	switch _, refused := errors.AsType[*imapclient.Refusal](err); {
	case err == nil, s.Reason() != "", endSeen(err):
	case refused:
		s.log().Warn("the backend doesn't accept IDLE again", "error", err)
		s.Terminate(ReasonBackendLost)
	default: // the backend hangs, or the connection was taken away
		s.log().Info("the backend doesn't answer IDLE", "error", err)
		_ = c.Abort()
	}
}

// idleAgain puts the backend into IDLE again for a session that stays attached or is attached again. The client
// isn't sent the "+", since it has had one. After an error the connection is of no more use. The backend may take as long as within.
func (s *Session) idleAgain(c *upstream.Conn, how track.ParkMode, within time.Duration) error {
	if how != track.ModeIdle {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	t := &s.inFlight.Client
	imap := resync.NewClient(c.Conn, c.Caps, resync.Options{Selected: true, ReadOnly: t.Mailbox.ReadOnly, Messages: t.Mailbox.Exists, Enabled: t.Enabled, Forward: s.passOn})
	_, err := imap.BeginIdle(ctx, s.inFlight.IdleTag(), nil)
	return errors.Join(err, imap.Release())
}

// lostBackend returns the reason with which a session without a backend ends at a response boundary, so that
// the client isn't sent BYE twice.
func (s *Session) lostBackend() Reason {
	if _, bye := s.inFlight.Farewell(); bye {
		if s.relaying != nil && s.down.farewell != nil { // the client hasn't been told of it
			s.down.write(s.down.farewell, true)
			s.down.farewell = nil
		}
		return ReasonBackendBye
	}
	if b := s.backend.Load(); b != nil && b.Progress.Stalled() {
		return ReasonBackendStalled
	}
	return ReasonBackendLost
}

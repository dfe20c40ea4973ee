package session

import (
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// closed tells a client that what was selected isn't any more, before its SELECT goes on
// (RFC 9051 §7.1, RFC 7162 §3.2.11): a backend that doesn't have it selected won't say so.
const closed = "* OK [CLOSED] Previous mailbox closed\r\n"

// tellLeft does what tellMissed does, for a command that leaves the mailbox: nothing of it
// is told.
func (s *Session) tellLeft() error {
	s.park.mu.Lock()
	s.park.state, s.park.deferred, s.park.star = nil, nil, 0
	s.park.mu.Unlock()
	if s.park.leaving != track.Leaves {
		return nil
	}
	s.inFlight.Deselect()
	return s.say([]byte(closed))
}

// left answers UNSELECT, or a CLOSE that expunges nothing, without a backend: from then on
// the session is parked with nothing selected.
func (f *parkedReader) left(h wire.CommandHead) bool {
	s := f.s
	tag := string(h.Tag)
	s.unpark()
	s.unsubscribe()
	s.park.mu.Lock()
	s.park.times++ // what is on its way to it was of the mailbox
	s.park.view, s.park.state = nil, nil
	s.park.mu.Unlock()
	if !s.inFlight.Begin(h, true, s.env.Now()) || s.say([]byte(tag+" OK "+h.Verb.String()+" completed\r\n")) != nil {
		return true // the session is over
	}
	s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.OK}, s.env.Now())
	return true
}

package session

import (
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// closed tells the client that its mailbox isn't selected any more, before its SELECT is passed on (RFC 9051
// §7.1, RFC 7162 §3.2.11): a backend that doesn't have the mailbox selected doesn't send it.
const closed = "* OK [CLOSED] Previous mailbox closed\r\n"

// tellLeft replaces tellMissed for a command that leaves the mailbox: the client isn't told what it missed
// there.
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

// left answers UNSELECT, or a CLOSE that expunges nothing, without a backend. The session is then parked with
// no mailbox selected.
func (f *parkedReader) left(h wire.CommandHead) bool {
	s := f.s
	tag := string(h.Tag)
	s.unpark()
	s.unsubscribe()
	s.park.mu.Lock()
	s.park.times++ // what the hub still sends it is about the mailbox that it left
	s.park.view, s.park.state = nil, nil
	s.park.mu.Unlock()
	if !s.inFlight.Begin(h, true, s.env.Now()) || s.say([]byte(tag+" OK "+h.Verb.String()+" completed\r\n")) != nil {
		return true // the session has ended
	}
	s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.OK}, s.env.Now())
	return true
}

package session

import (
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// answerCut sends the answers that are known at once for the commands that were in progress.
func (s *Session) answerCut(c track.Cut) error {
	for _, tag := range c.Refused {
		line := tag + " NO [UNAVAILABLE] The mail server was lost during this command, which may have been done\r\n"
		if err := s.say([]byte(line)); err != nil {
			return err
		}
		s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.NO}, s.env.Now())
	}
	for _, tag := range c.Done {
		if err := s.say([]byte(tag + " OK Idle completed\r\n")); err != nil {
			return err
		}
		s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.OK}, s.env.Now())
	}
	if c.Closed {
		if err := s.say([]byte(closed)); err != nil {
			return err
		}
	}
	if c.Prompt {
		return s.say([]byte(idling))
	}
	return nil
}

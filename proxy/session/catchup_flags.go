package session

import (
	"slices"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// spare takes out of what is to be told before a command what would be taken for the flags of
// after it (see spare), and returns cmd as it goes to the backend. said is as the client
// said it, its numbers are those of before.
func (o *catchUp) spare(said, cmd []byte) []byte {
	var loud bool
	line := wire.FirstLine(said)
	if u := o.deferred; u != nil {
		u.missed, loud = track.SpareFlags(u.missed, u.view, o.s.inFlight.Client.Dialect, line)
	} else if len(o.flags) > 0 {
		_, loud = track.ParseSilentStore(line, 1) // they are told now, and those of after it behind them
	}
	if loud {
		cmd = track.StripSilent(cmd)
	}
	return cmd
}

// newer forgets owed flags of the client's message n, for which the backend has just told
// others.
func (o *catchUp) newer(n uint32) {
	known, _ := o.n.Client()
	if uid, ok := known.At(n); ok {
		o.flags = slices.DeleteFunc(o.flags, func(c view.FlagChange) bool { return c.UID == uid })
	}
}

// spareUnread is spare for the command that comes next from the client.
func (s *Session) spareUnread(d view.Difference, v *view.View) view.Difference {
	cmd := s.client.TakeUnread()
	d, loud := track.SpareFlags(d, v, s.inFlight.Client.Dialect, wire.FirstLine(cmd))
	if loud {
		cmd = track.StripSilent(cmd)
	}
	s.client.Unread(cmd)
	return d
}

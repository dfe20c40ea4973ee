package session

import (
	"slices"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// spare removes from the changes that are told before a command those which the client would take for the
// flags after the command (see track.SpareFlags). It returns cmd as it goes to the backend. said is the
// command as the client sent it, with the client's message numbers.
func (o *catchUp) spare(said, cmd []byte) []byte {
	var loud bool
	line := wire.FirstLine(said)
	if u := o.deferred; u != nil {
		u.missed, loud = track.SpareFlags(u.missed, u.view, o.s.inFlight.Client.Dialect, line)
	} else if len(o.flags) > 0 {
		_, loud = track.ParseSilentStore(line, 1) // the deferred flags are told now, and the flags after the command follow them
	}
	if loud {
		cmd = track.StripSilent(cmd)
	}
	return cmd
}

// newer drops the deferred flags of the client's message n, since the backend has just sent newer ones.
func (o *catchUp) newer(n uint32) {
	known, _ := o.n.Client()
	if uid, ok := known.At(n); ok {
		o.flags = slices.DeleteFunc(o.flags, func(c view.FlagChange) bool { return c.UID == uid })
	}
}

// spareUnread is spare for the next command of the client.
func (s *Session) spareUnread(d view.Difference, v *view.View) view.Difference {
	cmd := s.client.TakeUnread()
	d, loud := track.SpareFlags(d, v, s.inFlight.Client.Dialect, wire.FirstLine(cmd))
	if loud {
		cmd = track.StripSilent(cmd)
	}
	s.client.Unread(cmd)
	return d
}

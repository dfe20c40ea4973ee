package session

import (
	"context"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// A session that ends leaves its connection to the pool, where its user's next login finds it: many clients
// log in every few minutes for a few commands.

// retireWithin bounds the commands that make a connection fit for the pool. The client doesn't wait for them.
const retireWithin = 5 * time.Second

// reusable says whether the session's connection can go to the pool: no command is in progress, and no command
// has left a state that can't be undone. idle says that the client may be in IDLE. Everything that the backend
// has sent was written to the client before reusable returns.
func (s *Session) reusable(idle bool) bool {
	s.down.followMu.Lock()
	defer s.down.followMu.Unlock()
	o := &s.set.Park
	if o.Hub == nil || !o.Pool.Keeps() || s.env.Settings().Park.Hub == nil { // parking was switched off since
		return false
	}
	return s.inFlight.LeavesNothing(idle)
}

// interceptLogout answers LOGOUT in the backend's place, and keeps the backend connection for the pool.
func (s *Session) interceptLogout(h wire.CommandHead) bool {
	if h.Verb != wire.Logout || len(h.Args) > 0 || !s.reusable(false) {
		return false
	}
	_ = s.out.say([]byte("* BYE Logging out\r\n" + string(h.Tag) + " OK Logout completed\r\n"))
	s.reusing.Store(true)
	return true
}

// mayReuse clears the interruption of the backend connection. It returns false if the session was aborted.
func (s *Session) mayReuse(b *upstream.Conn) bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	if s.aborted.Load() {
		return false
	}
	b.Rearm(conn.Both)
	return true
}

// releaseForReuse gives the connection of an ended session to the pool if it is fit for it, and says whether
// it did. Both readers have stopped.
func (s *Session) releaseForReuse(b *upstream.Conn) bool {
	if r := s.Reason(); !s.reusing.Load() || r != ReasonLogout && r != ReasonClientClosed {
		return false
	}
	if !s.down.scan.AtStart() || s.down.err != nil || s.down.broken != nil || s.down.rewrite || len(b.Kept()) > 0 || s.up.err != nil {
		return false
	}
	if !s.mayReuse(b) {
		return false
	}
	b.Caps = s.caps.Load().list
	t := &s.inFlight.Client
	tag := s.inFlight.IdleTag()
	ctx, cancel := context.WithTimeout(context.Background(), retireWithin)
	defer cancel()
	imap := resync.NewClient(b.Conn, b.Caps, resync.Options{Selected: s.inFlight.Selected(), ReadOnly: t.Mailbox.ReadOnly, Messages: t.Mailbox.Exists, Enabled: t.Enabled, TagInUse: tag})
	var err error
	if tag != "" {
		_, err = imap.EndIdle(ctx, tag, nil)
	}
	if err == nil {
		err = imap.Deselect(ctx)
	}
	broken := imap.Release()
	if err != nil || broken != nil {
		return false
	}
	s.give(b, upstream.Condition{})
	return true
}

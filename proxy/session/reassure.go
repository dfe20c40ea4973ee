package session

import (
	"time"

	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// Mail programs give a connection up on which nothing comes: mbsync after 20 s, FairEmail after 40 s, Thunderbird for Android
// after 60 s. A client whose command waits is sent an untagged OK now and then, which a server may send at any time between two responses
// (RFC 9051 §7.1.1). Inside a response nothing is sent: it would become part of a message.

const stillHere = "* OK Still here, waiting for the mail server\r\n"

const (
	// stillEvery is the interval of "Still here" lines to a client whose command waits for a backend connection.
	stillEvery = 5 * time.Second
	// reassureAfter is how long an attached client may wait for the backend's next octet without such a line. Dovecot sends a line
	// of its own after 15 s of some long commands; other servers send none.
	reassureAfter = 10 * time.Second
)

// clientWaits says whether the client of a session without a backend connection waits for an answer: to a command that was put back, or to what
// it has sent since. The session's owner calls it.
func (s *Session) clientWaits() bool { return len(s.client.PutBack()) > 0 || s.client.HasUnread() }

// stillHere sends a "Still here" line to a client whose command waits, if it was sent nothing for stillEvery.
// An untagged line is allowed there, since no response has begun.
func (s *Session) stillHere(heard *time.Time) {
	if now := s.env.Now(); now.Sub(*heard) >= stillEvery {
		*heard = now
		_ = s.say([]byte(stillHere)) // if it fails, say ends the session
	}
}

// reassures sends such lines while the session's owner waits for something else. The client waits for an answer if waits, or once it has sent
// something. The owner calls stop at the end of that, once, and doesn't use heard before; it doesn't call this inside a response.
func (s *Session) reassures(heard *time.Time, waits bool) (stop func()) {
	over, done := make(chan struct{}), make(chan struct{})
	timer := s.later(stillEvery, func() { // ends with stop, which waits for it
		defer close(done)
		tick := time.NewTicker(stillEvery)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			default:
			}
			if (waits || s.client.HasUnread()) && s.remind() {
				*heard = s.env.Now()
			}
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		close(over)
		if !timer.Stop() {
			<-done
		}
	}
}

// reassure sends a line to the client of an attached session that has waited for the backend for long. The sweep calls it.
func (s *Session) reassure(now time.Time) {
	at := Attachment(s.attachment.Load())
	owed, owes := s.owed()
	if logout, bye := s.inFlight.Farewell(); !owes || logout || bye || at != Attached && at != CatchingUp || now.Sub(owed) < reassureAfter {
		return
	}
	due := false
	s.onBackend(func(c *upstream.Conn) {
		since, waits := s.unanswered(c, now, owed, owes)
		if last := c.Progress.Reassured(); last.After(since) {
			since = last
		}
		due = waits && now.Sub(since) >= reassureAfter
	})
	if due && s.remind() {
		s.onBackend(func(c *upstream.Conn) { c.Progress.Reassures(now) })
	}
}

// remind sends a "Still here" line, if that can be done now without waiting. Any goroutine may call it.
func (s *Session) remind() bool {
	if !s.out.remind([]byte(stillHere)) {
		return false
	}
	s.bytesOut.Add(int64(len(stillHere)))
	s.env.Telemetry.AddBytes(telemetry.Out, int64(len(stillHere)))
	return true
}

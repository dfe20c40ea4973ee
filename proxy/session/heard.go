package session

import (
	"time"

	"imapproxy/internal/clock"
	"imapproxy/proxy/wire"
)

// nextLine reads the client's next line, of at most max bytes, in a phase that reads whole commands, and records when it came. The line is valid
// until the next read. After an error the line stays unread: what follows it may be a literal, which must not be taken for commands when
// the session goes on with another connection.
func (s *Session) nextLine(r *wire.Reader, max int) (line []byte, now time.Time, err error) {
	if line, err = r.ReadLine(max); err != nil {
		return nil, now, err
	}
	if !s.trusted() {
		r.Back(line)
		return nil, now, errSessionOver
	}
	now = s.env.Now()
	s.seen(now)
	s.lastHeard.Store(clock.Of(now))
	return line, now, nil
}

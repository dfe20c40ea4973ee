package agree

import (
	"errors"
	"fmt"
	"time"
)

// Discover takes a new answer of discovery.
func (m *Member) Discover(d Discovery, now time.Time) {
	m.at(now)
	if old := m.writer.discovery; old == nil || d.Index >= old.Index || d.Consistent {
		d.Backends = cleaned(d.Backends)
		m.writer.discovery = &d
	}
	m.pump()
}

// MoveUser asks for an override or, with "", that it be removed. The request is done when Override returns
// the backend; that takes a minute at most, or the request is given up.
func (m *Member) MoveUser(user, backend string, now time.Time) error {
	m.at(now)
	switch {
	case m.phase != inside || m.isolated:
		return ErrNotInside
	case !goodName(user):
		return errors.New("the user's name can't be routed")
	case backend != "" && m.fleet.backend(backend) == nil:
		return fmt.Errorf("%w: %s", ErrUnknownBackend, backend)
	case m.override(user) == "" && backend != "" && m.countOverrides() >= maxOverrides, len(m.writer.moves) >= maxOverrides:
		return ErrTooManyOverrides
	}
	m.writer.moves[user] = &request{backend, asked{until: m.now.Add(requestFor)}}
	m.pump()
	return nil
}

// Override returns the user's override in the fleet that this proxy goes by; "" if there is none.
func (m *Member) Override(user string) string { return m.override(user) }

// wantsOverride reports whether a claim has to wait because the user's placement is first made an override:
// with shared storage, a placement that differs from where all proxies have the user. It asks for that
// override.
func (m *Member) wantsOverride(user, home string, bucket int) bool {
	if home == "" || m.separate() || m.isolated || m.override(user) == home || !m.fleet.newest().up(home) {
		return false
	}
	if m.override(user) == "" && m.tables[len(m.tables)-1].choice[bucket] == m.places.of(home) {
		return false
	}
	if old, ok := m.writer.moves[user]; ok && old.to == home {
		return true
	}
	if err := m.MoveUser(user, home, m.now); err != nil {
		m.troubleOnce(fmt.Errorf("the placement of %q is left out: %w", user, err))
		return false
	}
	return true
}

// Errors of MoveUser.
var (
	ErrTooManyOverrides = errors.New("too many users are moved by overrides")
	ErrUnknownBackend   = errors.New("no such backend")
)

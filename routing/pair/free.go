package pair

import (
	"context"
	"time"
)

// Where returns the backend at which another process has the user; "": none has, as far as this one knows.
func (t *Table) Where(user string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at := t.conflictLocked(nil, user, ""); at != "" {
		return at
	}
	at, ok := t.away[user]
	switch {
	case !ok:
		return ""
	case t.o.Now().After(at.until):
		delete(t.away, user)
		return ""
	}
	return at.backend
}

// Free has the processes before this one let go of a user at all backends but one, and waits until they have, or until ctx
// ends. abort: their connections are closed at once. While none of them has the user elsewhere it does nothing. The successor
// decides, and isn't asked: where it had the user elsewhere just now, Free waits a moment, and the next claim asks it again.
func (t *Table) Free(ctx context.Context, user, backend string, abort bool) error {
	var tick *time.Ticker
	for {
		t.mu.Lock()
		asked := false
		for _, s := range t.users[user] {
			if s.of != nil && s.backend != backend {
				s.of.letGo(user, abort)
				asked = true
			}
		}
		if !asked {
			at, away := t.away[user]
			delete(t.away, user)
			t.mu.Unlock()
			if away && at.backend != backend && t.o.Now().Before(at.until) {
				return pause(ctx, askAgain)
			}
			return nil
		}
		if t.changed == nil {
			t.changed = make(chan struct{})
		}
		changed := t.changed
		t.mu.Unlock()
		if tick == nil {
			tick = time.NewTicker(t.o.LetGoEvery)
			defer tick.Stop()
		}
		if err := t.wait(ctx, user, backend, changed, tick.C); err != nil {
			return err
		}
	}
}

// wait returns when the user's claims elsewhere have ended, or when it is time to ask again.
func (t *Table) wait(ctx context.Context, user, backend string, changed <-chan struct{}, again <-chan time.Time) error {
	for {
		select {
		case <-changed:
		case <-again:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		t.mu.Lock()
		if t.conflictLocked(nil, user, backend) == "" {
			t.mu.Unlock()
			return nil
		}
		if t.changed == nil {
			t.changed = make(chan struct{})
		}
		changed = t.changed
		t.mu.Unlock()
	}
}

// LetGo passes the successor's request to let go of a user, as in Free, to the processes before this one.
func (t *Table) LetGo(user string, abort bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.users[user] {
		if s.of != nil {
			s.of.letGo(user, abort)
		}
	}
}

// askAgain is the pause before the successor is asked again about a user who can't be where it has them.
const askAgain = 250 * time.Millisecond

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

package park

import (
	"context"
	"errors"
	"time"

	"imapproxy/telemetry"
)

// watchIdle is the goroutine of an IDLE watch: it keeps one, as long as anybody is
// interested.
func (m *mailbox) watchIdle(ctx context.Context) {
	stop := context.AfterFunc(ctx, m.bell.ring)
	defer stop()
	for {
		err := m.idleWatch(ctx)
		if ctx.Err() != nil {
			return
		}
		m.hub.mu.Lock()
		m.fallenLocked()
		m.hub.mu.Unlock()
		wait, again := m.failed(err)
		if !again {
			return
		}
		m.hub.pause(ctx, wait)
	}
}

// idleWatch is one connection's life: EXAMINE, IDLE, and at each hint DONE, a
// round, and IDLE again. It returns why it ended.
func (m *mailbox) idleWatch(ctx context.Context) error {
	h := m.hub
	release, err := m.backend.slot(ctx, m.user)
	if err != nil {
		return err
	}
	defer func() { release() }()
	a, ok := m.account()
	if !ok {
		return ErrLost
	}
	t, err := m.open(ctx, a)
	if err != nil {
		return err
	}
	h.connections(1)
	defer func() {
		c, _ := t.Release()
		_ = c.Close() // it was in IDLE: nobody else may have it
		h.connections(-1)
	}()
	for {
		tag, err := m.startIdle(ctx, t)
		if err != nil {
			return err
		}
		release()
		if err := m.idle(ctx, t); err != nil {
			return err
		}
		if release, err = m.backend.slot(ctx, m.user); err != nil {
			release = func() {}
			return err
		}
		if err := m.endIdle(ctx, t, tag); err != nil {
			return err
		}
		if _, err := m.roundOn(ctx, t); err != nil {
			return err
		}
	}
}

// open logs in and selects the mailbox: by a round, where members wait for one.
func (m *mailbox) open(ctx context.Context, a Account) (*Talk, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialogueTimeout, ErrTooSlow)
	defer cancel()
	for try := 0; ; try++ {
		c, err := a.Login(ctx)
		if err != nil {
			return nil, err
		}
		t := NewTalk(c, TalkOptions{})
		err = prepare(ctx, t, m.resync)
		ran := false
		if err == nil {
			if ran, err = m.roundOn(ctx, t); err == nil && !ran {
				err = m.examine(ctx, t)
			}
		}
		if err == nil {
			return t, nil
		}
		giveBack(ctx, t, a)
		if _, broken := errors.AsType[*Broken](err); !broken || ran || try > 0 || ctx.Err() != nil {
			return nil, err
		}
	}
}

// roundOn makes a round on the watch's own connection, if there is reason to.
func (m *mailbox) roundOn(ctx context.Context, t *Talk) (ran bool, err error) {
	r := m.begin()
	if r == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, dialogueTimeout, ErrTooSlow)
	defer cancel()
	s, err := m.resync.Resync(ctx, t, r.query)
	r.trace.Steps.Done(telemetry.StepResync, m.hub.now(), err)
	m.finish(r, s, err)
	return true, err
}

// startIdle sends IDLE and waits for the continuation request; from then on hints
// flow. RFC 9051 §6.3.13.
func (m *mailbox) startIdle(ctx context.Context, t *Talk) (tag string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialogueTimeout, ErrTooSlow)
	defer cancel()
	if tag, err = t.startIdle(ctx, m.take); err != nil {
		return tag, err
	}
	h := m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	m.reIdleAt = h.now().Add(idleFor)
	m.standLocked()
	m.kickLocked()
	return tag, nil
}

// idle waits in IDLE until there is something to do: a round, or to say IDLE again.
func (m *mailbox) idle(ctx context.Context, t *Talk) error {
	for {
		data, rung, err := m.bell.wait(t, m.hub.pump)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if data {
			if err := m.listen(ctx, t); err != nil {
				return err
			}
		}
		if rung && m.stirred() {
			return nil
		}
	}
}

// stirred says whether what rang means work. A round that is put off rings again.
func (m *mailbox) stirred() bool {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	return m.reIdleAt.IsZero() || len(m.jobs) > 0 || m.dueLocked() && !m.hub.now().Before(m.notBefore)
}

// listen reads what the backend says in IDLE.
func (m *mailbox) listen(ctx context.Context, t *Talk) error {
	ctx, cancel := context.WithTimeoutCause(ctx, dialogueTimeout, ErrTooSlow)
	defer cancel()
	return t.listen(ctx, m.take)
}

// endIdle sends DONE. What comes before its answer are hints, which the round that
// follows covers.
func (m *mailbox) endIdle(ctx context.Context, t *Talk, tag string) error {
	h := m.hub
	h.mu.Lock()
	m.reIdleAt = time.Time{}
	h.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, dialogueTimeout, ErrTooSlow)
	defer cancel()
	_, err := t.exchange(ctx, "DONE\r\n", tag, "IDLE", m.take)
	return err
}

// take makes hints of what a backend says of the mailbox. What else it says
// concerns nobody: every line to a client is made from its own view.
func (m *mailbox) take(u untagged) bool {
	if u.is("EXISTS") || u.is("EXPUNGE") || u.is("VANISHED") || u.is("FETCH") || u.is("FLAGS") {
		m.hub.mu.Lock()
		m.hintLocked(HintWatch)
		m.hub.mu.Unlock()
	}
	return true
}

// connections counts the connections of watches.
func (h *Hub) connections(delta int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts.Connections += delta
}

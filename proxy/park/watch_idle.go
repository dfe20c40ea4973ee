package park

import (
	"context"
	"errors"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// idleWatch is the connection of an IDLE watch.
type idleWatch struct {
	held
	m   *mailbox
	ctx context.Context // the watch's
	tag string          // of the IDLE that is in progress
}

// Wake implements conn.Handler.
func (w *idleWatch) Wake() {
	defer w.hub.wg.Done()
	w.m.keepIdle(w.ctx, w)
}

// watchIdle keeps a connection in IDLE while the mailbox has a subscription. What ends ctx wakes the waker after that (dropLocked,
// Hub.Run): a context.AfterFunc for each watch would take half a KB.
func (m *mailbox) watchIdle(ctx context.Context) { m.keepIdle(ctx, nil) }

// keepIdle goes on with the watch until the poller waits for its connection, or the watch ends. w is the connection that the poller has woken;
// nil: there is none yet.
func (m *mailbox) keepIdle(ctx context.Context, w *idleWatch) {
	for ; ; w = nil {
		err := m.useIdle(ctx, w)
		if errors.Is(err, errResting) || ctx.Err() != nil {
			return
		}
		m.hub.mu.Lock()
		m.brokenLocked()
		m.hub.mu.Unlock()
		wait, again := m.failed(err)
		if !again {
			return
		}
		m.hub.pause(ctx, wait, err, m)
	}
}

// useIdle uses one connection: EXAMINE, IDLE, and after each hint DONE, a round, and IDLE again. It returns
// the reason of the end, or errResting.
func (m *mailbox) useIdle(ctx context.Context, w *idleWatch) (err error) {
	if w == nil {
		if w, err = m.connect(ctx); err != nil {
			return err
		}
	}
	for err == nil {
		if err = w.idle(ctx); err == nil {
			err = w.round(ctx)
		}
	}
	if !errors.Is(err, errResting) { // else w is the handler's
		w.close()
	}
	return err
}

// connect makes a connection that is in IDLE.
func (m *mailbox) connect(ctx context.Context) (_ *idleWatch, err error) {
	trace := m.hub.conversation(WatchIdle, m.user.name, m.name, true)
	defer func() { m.hub.conversed(ctx, trace, &m.site, err) }()
	release, err := m.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	trace.Steps.Done(telemetry.StepTurn, m.hub.now(), nil)
	a, ok := m.account()
	if !ok {
		return nil, ErrLost
	}
	m.arrives()
	conn, c, err := m.open(ctx, a, trace.Steps)
	if err != nil {
		return nil, err
	}
	w := &idleWatch{held: m.hub.hold(conn, c, &m.waker), m: m, ctx: ctx}
	w.tag, err = m.beginIdle(ctx, c)
	trace.Steps.Done(telemetry.StepIdle, m.hub.now(), err)
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// round ends IDLE, makes a round, and begins IDLE again.
func (w *idleWatch) round(ctx context.Context) (err error) {
	m := w.m
	trace := m.hub.conversation(WatchIdle, m.user.name, m.name, false)
	defer func() { m.hub.conversed(ctx, trace, &m.site, err) }()
	release, err := m.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	trace.Steps.Done(telemetry.StepTurn, m.hub.now(), nil)
	err = m.endIdle(ctx, w.c, w.tag)
	trace.Steps.Done(telemetry.StepDone, m.hub.now(), err)
	if err != nil {
		return err
	}
	ran, err := m.roundOn(ctx, w.c)
	if ran {
		trace.Steps.Done(telemetry.StepResync, m.hub.now(), err)
	}
	if err != nil {
		return err
	}
	w.tag, err = m.beginIdle(ctx, w.c)
	trace.Steps.Done(telemetry.StepIdle, m.hub.now(), err)
	return err
}

// open logs in and selects the mailbox, by a round if members wait for one.
func (m *mailbox) open(ctx context.Context, a Account, steps *telemetry.Steps) (*upstream.Conn, *resync.Client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, exchangeTimeout, ErrTooSlow)
	defer cancel()
	for try := 0; ; try++ {
		conn, err := a.Login(ctx, steps)
		steps.Done(telemetry.StepLogin, m.hub.now(), err)
		if err != nil {
			return nil, nil, err
		}
		m.reached(conn)
		c := newClient(conn)
		err = prepare(ctx, c, m.strategy)
		steps.Done(telemetry.StepEnable, m.hub.now(), err)
		ran := false
		if err == nil {
			if ran, err = m.roundOn(ctx, c); ran {
				steps.Done(telemetry.StepResync, m.hub.now(), err)
			} else if err == nil {
				err = m.examine(ctx, c)
				steps.Done(telemetry.StepSelect, m.hub.now(), err)
			}
		}
		if err == nil {
			return conn, c, nil
		}
		giveBack(ctx, conn, c, a)
		if _, broken := errors.AsType[*imapclient.Broken](err); !broken || ran || try > 0 || ctx.Err() != nil {
			return nil, nil, err
		}
	}
}

// roundOn makes a round on the watch's own connection, if there is a reason.
func (m *mailbox) roundOn(ctx context.Context, c *resync.Client) (ran bool, err error) {
	r := m.begin()
	if r == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, exchangeTimeout, ErrTooSlow)
	defer cancel()
	s, err := m.strategy.Resync(ctx, c, r.query)
	r.trace.Steps.Done(telemetry.StepResync, m.hub.now(), err)
	m.finish(r, s, err)
	return true, err
}

// beginIdle sends IDLE and waits for the continuation request; from then on hints
// flow. RFC 9051 §6.3.13.
func (m *mailbox) beginIdle(ctx context.Context, c *resync.Client) (tag string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, exchangeTimeout, ErrTooSlow)
	defer cancel()
	if tag, err = c.BeginIdle(ctx, "", m.onUntagged); err != nil {
		return tag, err
	}
	h := m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	m.reIdleAt = h.moment().Add(idleFor)
	m.worksLocked()
	m.scheduleLocked()
	return tag, nil
}

// idle waits in IDLE until there is work: a round, or the renewal of IDLE.
func (w *idleWatch) idle(ctx context.Context) error {
	m := w.m
	for {
		data, woken, err := w.next(w)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if data {
			if err := m.listen(ctx, w.c); err != nil {
				return err
			}
		}
		switch {
		case woken && m.left():
			return errLetGo
		case woken && m.hasWork():
			return nil
		}
	}
}

// hasWork says whether there is work. A delayed round wakes the watch again later.
func (m *mailbox) hasWork() bool {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	return m.reIdleAt.IsZero() || len(m.jobs) > 0 || m.dueLocked() && !m.hub.moment().Before(m.notBefore)
}

// listen reads the backend's responses in IDLE.
func (m *mailbox) listen(ctx context.Context, c *resync.Client) error {
	ctx, cancel := context.WithTimeoutCause(ctx, exchangeTimeout, ErrTooSlow)
	defer cancel()
	return c.Listen(ctx, m.onUntagged)
}

// endIdle sends DONE. Responses before its answer are hints, which the next round covers.
func (m *mailbox) endIdle(ctx context.Context, c *resync.Client, tag string) error {
	h := m.hub
	h.mu.Lock()
	m.reIdleAt = 0
	h.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, doneTimeout, ErrTooSlow)
	defer cancel()
	_, err := c.EndIdle(ctx, tag, m.onUntagged)
	return err
}

// onUntagged turns responses about the mailbox into hints. Other responses are dropped: every line for a
// client is made from its own view.
func (m *mailbox) onUntagged(u imapclient.Untagged) bool {
	if u.Is("EXISTS") || u.Is("EXPUNGE") || u.Is("VANISHED") || u.Is("FETCH") || u.Is("FLAGS") {
		m.hub.mu.Lock()
		m.hintLocked(HintWatch)
		m.hub.mu.Unlock()
	}
	return true
}

package park

import (
	"context"
	"slices"
	"sync"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// startLocked has hints begin to flow.
func (m *mailbox) startLocked() {
	ctx, cancel := context.WithCancel(m.hub.ctx)
	m.phase, m.cancel = starting, cancel
	if !m.hub.goLocked(func() { m.start(ctx) }) {
		cancel()
	}
}

func (m *mailbox) start(ctx context.Context) {
	kind, err := m.choose(ctx)
	if err != nil {
		m.failed(err)
		return
	}
	h := m.hub
	h.mu.Lock()
	m.watchedLocked(kind)
	if m.phase != dead && kind != WatchIdle { // nothing runs for it any more
		m.cancel()
		m.cancel = nil
	}
	switch {
	case m.phase == dead || kind == WatchIdle:
	case kind == WatchNotify:
		h.notifyLocked(m) // it says when the mailbox stands
	default:
		m.standLocked()
	}
	h.mu.Unlock()
	if kind == WatchIdle {
		m.watchIdle(ctx)
	}
}

// choose chooses the watch. Whether the mailbox is the user's own is asked only
// where it makes a difference: it may need a connection.
func (m *mailbox) choose(ctx context.Context) (Watch, error) {
	a, ok := m.account()
	if !ok {
		return 0, ErrLost
	}
	by := WatchBy{Mode: m.hub.o.Watch, Push: m.hub.o.Push, Caps: a.Caps, Inbox: m.name == inbox, NotifyRefused: m.hub.noNotify(m)}
	shared, _ := ChooseWatch(by)
	by.Personal = true
	own, _ := ChooseWatch(by)
	if own == shared {
		return own, nil
	}
	personal, err := m.personal(ctx, a)
	if err != nil || personal {
		return own, err
	}
	return shared, nil
}

// backend bounds what goes on at one backend at a time.
type backend struct {
	hub   *Hub
	id    string
	slots chan struct{} // has a token for each dialogue

	// Guarded by the hub's mutex:
	mailboxes  int // how many are at this backend
	workers    int
	namespaces *namespaces // those of the user who was asked for last
	// queue has the mailboxes that wait for a round on a connection that isn't a
	// watch's, first come, first served, but one of a user's at a time: the next finds
	// the connection warm, where several at once would log in each for itself. Only for one that
	// somebody waits for is that worth it.
	queue   []*mailbox
	serving []*mailbox // those that the workers have a connection for, or soon will
}

// slot waits for a place among the dialogues.
func (b *backend) slot(ctx context.Context) (release func(), err error) {
	select {
	case b.slots <- struct{}{}:
		return sync.OnceFunc(func() { <-b.slots }), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-b.hub.ctx.Done():
		return nil, ErrHubClosed
	}
}

// enqueueLocked has a worker make a round of the mailbox.
func (b *backend) enqueueLocked(m *mailbox) {
	if !m.queued {
		m.queued = true
		b.queue = append(b.queue, m)
	}
	b.staffLocked()
}

// staffLocked has another worker look whether there is something for it to do.
func (b *backend) staffLocked() {
	if len(b.queue) > 0 && b.workers < cap(b.slots) && b.hub.goLocked(b.work) {
		b.workers++
	}
}

// work makes rounds until none is waiting that may be made now: whoever serves the user comes
// back for his others.
func (b *backend) work() {
	h := b.hub
	h.mu.Lock()
	for !h.closed {
		m := b.nextLocked()
		if m == nil {
			break
		}
		h.mu.Unlock()
		m.resyncOnce()
		h.mu.Lock()
		b.servedLocked(m)
	}
	b.workers--
	h.mu.Unlock()
}

// nextLocked takes the first mailbox from the queue that may have its round now; nil: none may.
func (b *backend) nextLocked() *mailbox {
	for i, m := range b.queue {
		if !b.mayLocked(m) {
			continue
		}
		copy(b.queue[1:i+1], b.queue[:i]) // those in front are few, those behind may be many
		b.queue[0] = nil
		b.queue = b.queue[1:]
		b.serving = append(b.serving, m)
		m.queued = false
		return m
	}
	return nil
}

func (b *backend) mayLocked(m *mailbox) bool {
	return !m.running && !slices.ContainsFunc(b.serving, func(s *mailbox) bool {
		return s == m || s.user == m.user && len(m.waiters) == 0
	})
}

// servedLocked: its connection is free, whoever has still to be told. It may be said again.
func (b *backend) servedLocked(m *mailbox) {
	b.serving = slices.DeleteFunc(b.serving, func(s *mailbox) bool { return s == m })
}

// resyncOnce makes one round on a connection that is taken for it.
func (m *mailbox) resyncOnce() {
	r := m.begin()
	if r == nil {
		return
	}
	var s *State
	err := ErrLost
	if a, ok := m.account(); ok {
		err = m.dialogue(m.hub.ctx, a, func(ctx context.Context, t *Talk) (err error) {
			r.trace.Steps.Done(telemetry.StepConnect, m.hub.now(), nil)
			s, err = m.resync.Resync(ctx, t, r.query)
			r.trace.Steps.Done(telemetry.StepResync, m.hub.now(), err)
			return err
		})
	}
	m.hub.mu.Lock()
	m.backend.servedLocked(m)
	m.backend.staffLocked() // this one tells clients first, and some take their time
	m.hub.mu.Unlock()
	m.finish(r, s, err)
	if err != nil {
		m.failed(err)
	}
}

// doorbell wakes the goroutine that waits on a watch's connection, which holds
// neither a buffer nor a timer. Whoever rings needn't know whether it waits.
type doorbell struct {
	mu   sync.Mutex     // guards what follows; a leaf
	conn *upstream.Conn // where it waits; nil: it doesn't
	rung bool
}

func (b *doorbell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rung = true
	if b.conn != nil {
		_ = b.conn.SetReadDeadline(longAgo) // an error means that it is about to return
	}
}

// wait returns when something has come on t's connection, which is left unread, when
// it rang, or both. Its error is *Broken.
func (b *doorbell) wait(t *Talk, pump *conn.Pool) (data, rung bool, err error) {
	t.conn.Unread(t.r.Buffered())
	b.mu.Lock()
	if b.rung {
		b.rung = false
		b.mu.Unlock()
		return false, true, nil
	}
	b.conn = t.conn
	b.mu.Unlock()

	var come arrival
	err = t.conn.Pump(pump, &come)

	b.mu.Lock()
	rung = b.rung
	b.conn, b.rung = nil, false
	_ = t.conn.SetReadDeadline(noDeadline) // only ring sets one
	b.mu.Unlock()
	t.conn.Unread(come.bytes)
	if err != nil && !rung {
		t.broken = &Broken{Err: err}
		return false, false, t.broken
	}
	return len(come.bytes) > 0, rung, nil
}

// arrival keeps what a Pump was given first.
type arrival struct{ bytes []byte }

// Chunk is conn.Receiver's.
func (a *arrival) Chunk(b []byte) (int, conn.Next) {
	a.bytes = append(a.bytes, b...)
	return 0, conn.Stop
}

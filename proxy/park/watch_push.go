package park

import (
	"context"
	"sync"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/upstream"
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
		b.conn.Interrupt(conn.Reads)
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
	t.conn.Rearm(conn.Reads) // only ring interrupts it
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

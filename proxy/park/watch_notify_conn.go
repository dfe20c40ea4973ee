package park

import (
	"context"
	"errors"
	"slices"

	"imapproxy/proxy/imapclient"
	"imapproxy/telemetry"
)

// notifyConn is the connection of a NOTIFY watch.
type notifyConn struct {
	held
	watch *notifyWatch
	ctx   context.Context          // the watch's
	known map[string]mailboxStatus // what the backend has told on it
}

// Wake implements conn.Handler.
func (n *notifyConn) Wake() {
	defer n.hub.wg.Done()
	n.watch.keep(n.ctx, n)
}

// watch uses one connection, n or a new one. It returns the reason of the end, or errResting.
func (w *notifyWatch) watch(ctx context.Context, n *notifyConn) (err error) {
	if n == nil {
		if n, err = w.connect(ctx); err != nil {
			return err
		}
	}
	for err == nil {
		if err = n.listen(ctx); err == nil {
			trace := w.hub.conversation(WatchNotify, w.user.name, "", false)
			err = w.set(ctx, n.c, n.known, true)
			trace.Steps.Done(telemetry.StepNotify, w.hub.now(), err)
			w.hub.conversed(ctx, trace, &w.site, err)
		}
	}
	if !errors.Is(err, errResting) { // else n is the handler's
		n.close()
	}
	return err
}

// connect makes a connection on which NOTIFY is set.
func (w *notifyWatch) connect(ctx context.Context) (_ *notifyConn, err error) {
	trace := w.hub.conversation(WatchNotify, w.user.name, "", true)
	defer func() { w.hub.conversed(ctx, trace, &w.site, err) }()
	conn, c, err := w.open(ctx, trace.Steps)
	if err != nil {
		return nil, err
	}
	n := &notifyConn{held: w.hub.hold(conn, c, &w.waker), watch: w, ctx: ctx, known: map[string]mailboxStatus{}}
	err = w.set(ctx, c, n.known, false)
	trace.Steps.Done(telemetry.StepNotify, w.hub.now(), err)
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// run keeps a connection on which NOTIFY is set. What ends ctx wakes the waker after that (removeLocked, Hub.Run).
func (w *notifyWatch) run(ctx context.Context) { w.keep(ctx, nil) }

// keep goes on with the watch until the poller waits for its connection, or the watch ends. n is the connection that the poller has woken;
// nil: there is none yet.
func (w *notifyWatch) keep(ctx context.Context, n *notifyConn) {
	for ; ; n = nil {
		err := w.watch(ctx, n)
		if errors.Is(err, errResting) || ctx.Err() != nil {
			return
		}
		h := w.hub
		h.mu.Lock()
		for _, m := range w.mailboxes {
			m.brokenLocked()
		}
		w.changed = true
		mailboxes := slices.Clone(w.mailboxes)
		h.mu.Unlock()
		if refusal, ok := errors.AsType[*imapclient.Refusal](err); ok && refusal.Verb == "NOTIFY" {
			w.giveUp()
			return
		}
		wait := lastBackoff
		for _, m := range mailboxes {
			if d, again := m.failed(err); again {
				wait = min(wait, d)
			}
		}
		if ctx.Err() != nil {
			return
		}
		h.pause(ctx, wait, err, mailboxes...)
	}
}

// listen reads notifications until NOTIFY has to be set again.
func (n *notifyConn) listen(ctx context.Context) error {
	w := n.watch
	for {
		data, woken, err := n.next(n)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if data {
			within, cancel := context.WithTimeoutCause(ctx, exchangeTimeout, ErrTooSlow)
			err := n.c.Listen(within, func(u imapclient.Untagged) bool { return w.onUntagged(u, n.c, n.known, true) })
			cancel()
			if err != nil {
				return err
			}
			w.renewSoon()
		}
		if woken || data {
			w.hub.mu.Lock()
			changed, leaves := w.changed, w.leaves
			w.hub.mu.Unlock()
			switch {
			case leaves:
				return errLetGo
			case changed:
				return nil
			}
		}
	}
}

package park

import (
	"context"
	"errors"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// withClient calls f with a connection of the watch's kind, which it gives back afterwards. If a warm
// connection turns out to be dead, f is called again with another one. steps gets the connecting.
func (m *mailbox) withClient(ctx context.Context, a Account, steps *telemetry.Steps, f func(context.Context, *resync.Client) error) error {
	release, err := m.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeoutCause(ctx, exchangeTimeout, ErrTooSlow)
	defer cancel()
	stop := context.AfterFunc(m.hub.ctx, cancel)
	defer stop()
	for try := 0; ; try++ {
		conn, err := a.Login(ctx, steps)
		if err != nil {
			steps.Done(telemetry.StepConnect, m.hub.now(), err)
			return err
		}
		m.reached(conn)
		warm := time.Since(conn.LoggedIn) > time.Second
		c := newClient(conn)
		err = prepare(ctx, c, m.strategy)
		steps.Done(telemetry.StepConnect, m.hub.now(), err)
		if err == nil {
			err = f(ctx, c)
		}
		giveBack(ctx, conn, c, a)
		if _, broken := errors.AsType[*imapclient.Broken](err); !broken || try > 0 || !warm || ctx.Err() != nil {
			return err
		}
	}
}

// newClient returns the client of a connection on which no mailbox is selected.
func newClient(c *upstream.Conn) *resync.Client {
	return resync.NewClient(c.Conn, c.Caps, resync.Options{})
}

// prepare enables what the strategy needs, so that all connections of the watch's kind are alike. On a warm
// connection it may be enabled already, and then the server needn't confirm it again; a server that can't
// enable it refuses the EXAMINE.
func prepare(ctx context.Context, c *resync.Client, by resync.Strategy) error {
	if by != (resync.ByQResync{}) {
		return nil
	}
	err := c.Enable(ctx, "QRESYNC")
	if errors.Is(err, resync.ErrNotEnabled) {
		c.AssumeEnabled("QRESYNC")
		return nil
	}
	return err
}

// giveBack ends the hub's use of a connection that was never in IDLE.
func giveBack(ctx context.Context, conn *upstream.Conn, c *resync.Client, a Account) {
	err := c.Deselect(ctx)
	broken := c.Release()
	if err != nil || broken != nil || a.Give == nil {
		_ = conn.Close()
		return
	}
	a.Give(conn, c.Enabled())
}

// connections counts the connections of watches.
func (h *Hub) connections(delta int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts.Connections += delta
}

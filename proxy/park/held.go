package park

import (
	"errors"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
)

// held is the connection of an IDLE or a NOTIFY watch. A goroutine uses it; while the backend is silent, the hub's poller waits for it, and
// the watch has no goroutine.
type held struct {
	hub   *Hub
	waker *imapclient.Waker // of the watch
	conn  *upstream.Conn
	c     *resync.Client
	away  bool // the poller waits, or has woken the watch
}

// errResting means that the poller waits: the handler goes on with the watch, and may be doing so already.
var errResting = errors.New("the poller waits for the connection")

func (h *Hub) hold(c *upstream.Conn, client *resync.Client, waker *imapclient.Waker) held {
	h.connections(1)
	return held{hub: h, waker: waker, conn: c, c: client}
}

// close closes the connection: IDLE is in progress on it, or NOTIFY is set, so that it can't be given back.
func (w *held) close() {
	_ = w.conn.Close()
	w.hub.connections(-1)
}

// next waits until data has arrived or the waker was called; both may be false. errResting: the handler was given to the poller, and calls next
// again. The hub's end waits for the handler, as for a goroutine.
func (w *held) next(handler conn.Handler) (data, woken bool, err error) {
	h := w.hub
	if w.away {
		w.away = false
		return w.c.Rested(w.waker, h.pump)
	}
	h.mu.Lock()
	poller := h.poller
	h.mu.Unlock()
	if poller != nil {
		w.away = true
		h.wg.Add(1) // the handler calls Done; this goroutine counts, so the hub's end can't have passed yet
		if w.c.Rest(w.waker, h.pump, poller, handler) {
			return false, false, errResting
		}
		w.away = false
		h.wg.Done()
	}
	return w.c.Wait(w.waker, h.pump)
}

package park

import (
	"context"
	"errors"

	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// conversation starts the measurement of what a watch says on its own connection. mailbox "": it watches several.
func (h *Hub) conversation(kind Watch, user, mailbox string, connects bool) telemetry.Watch {
	now := h.now()
	return telemetry.Watch{User: user, Mailbox: mailbox, Watch: kind.String(), Connects: connects, Start: now, Steps: h.o.Telemetry.Steps(now)}
}

// conversed passes a conversation that is over to telemetry. One that was cut short because the watch or the hub ends doesn't count as
// failed, and one that wasn't tried counts as nothing. at is where the watch is now; the hub's mutex guards it.
func (h *Hub) conversed(ctx context.Context, t telemetry.Watch, at **site, err error) {
	if ctx.Err() != nil || h.ctx.Err() != nil || untried(err) {
		return
	}
	t.Err, t.End = err, h.now()
	h.mu.Lock()
	t.Backend, t.Address = (*at).name, (*at).address
	h.mu.Unlock()
	h.o.Telemetry.Watched(t)
}

// untried says whether err means that no backend was asked: the watch or its mailbox is gone, an operator has paused the backend, or the user
// is being moved.
func untried(err error) bool {
	if errors.Is(err, ErrLost) {
		return true
	}
	if _, paused := errors.AsType[*upstream.Paused](err); paused {
		return true
	}
	_, elsewhere := errors.AsType[*upstream.Elsewhere](err)
	return elsewhere
}

package idlers

import (
	"sync/atomic"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A restart is one restart of the lab's server, for all clients at a time: each has idled once by then.
type restart struct {
	clients int32         // that are to be ready
	ready   atomic.Int32  // that are
	done    chan struct{} // closed when the server is up again
}

func restartFor(clients int) *restart {
	return &restart{clients: int32(clients), done: make(chan struct{})}
}

// restarted waits until the server was restarted. The last client to be ready does that.
func (a *account) restarted() {
	a.Helper()
	r := a.l.restart
	if r == nil {
		return
	}
	if r.ready.Add(1) == r.clients {
		a.l.server.Process.Stop()
		a.l.server.StartAgain(a.l.t)
		close(r.done)
	}
	select {
	case <-r.done:
	case <-a.Context().Done():
		a.FailNow()
	}
	a.again()
}

// again connects the others anew after the server was restarted.
func (a *account) again() {
	a.Helper()
	_ = a.other.Conn.Close()
	a.other = imaptest.Dial(a, a.l.server.Addr)
	a.other.Login(a.user, servers.Password)
	a.other.MustOK("SELECT INBOX")
}

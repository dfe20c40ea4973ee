package idlers

import (
	"sync/atomic"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A restart is one restart of the lab's server, for all clients at a time: each has idled once by then.
type restart struct {
	awaited atomic.Int32  // clients that are neither ready nor have failed
	done    chan struct{} // closed when the server is up again
}

func newRestart() *restart { return &restart{done: make(chan struct{})} }

// joins says that a client takes part. All clients join before one is ready.
func (r *restart) joins() { r.awaited.Add(1) }

// restarted waits until the server was restarted. The last client to be ready does that.
func (a *account) restarted() {
	a.Helper()
	r := a.l.restart
	if r == nil {
		return
	}
	a.ready()
	select {
	case <-r.done:
	case <-a.Context().Done():
		a.FailNow()
	}
	a.again()
}

// ready says that the restart needn't wait for this client any more: it has idled, or failed before that.
func (a *account) ready() {
	r := a.l.restart
	if r == nil || a.isReady {
		return
	}
	a.isReady = true
	if r.awaited.Add(-1) == 0 {
		a.l.server.Process.Stop()
		a.l.server.StartAgain(a.l.t)
		close(r.done)
	}
}

// again connects the others anew after the server was restarted.
func (a *account) again() {
	a.Helper()
	_ = a.other.Conn.Close()
	a.other = imaptest.Dial(a, a.l.server.Addr)
	a.other.Login(a.user, servers.Password)
	a.other.MustOK("SELECT INBOX")
}

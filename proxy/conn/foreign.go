package conn

import (
	"context"
	"net"
	"time"
)

// Until makes the I/O on a connection that isn't a Conn, such as one that a library uses, return
// os.ErrDeadlineExceeded from the end of ctx on. Only the connection's owner may call it, and calls stop when the
// work that is bound to ctx is done. stop says whether ctx ended before; if so, the connection is of no more use, since
// what its peer has left to send is unknown.
func Until(ctx context.Context, c net.Conn) (stop func() (ended bool)) {
	cancel := context.AfterFunc(ctx, func() { _ = c.SetDeadline(longAgo()) })
	return func() bool { return !cancel() }
}

// StopAccepting makes the accepts on l return os.ErrDeadlineExceeded: those that wait, and all that follow until
// AcceptAgain. The socket stays open. Only the listener's owner may call it. A listener that is closed or nil stays as
// it is.
func StopAccepting(l *net.TCPListener) { _ = l.SetDeadline(longAgo()) }

// AcceptAgain ends StopAccepting.
func AcceptAgain(l *net.TCPListener) { _ = l.SetDeadline(time.Time{}) }

package imaptest

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Backend is a fake IMAP server on loopback; the test decides all that it sends.
type Backend struct {
	Addr string // host:port

	t       testing.TB
	ln      net.Listener
	handler Handler
	ctx     context.Context // done when the backend closes
	cancel  context.CancelFunc
	wg      sync.WaitGroup // accept loop and one goroutine a connection

	mu sync.Mutex // guards what follows
	// conns are the connections whose handler runs; Close closes them
	conns    map[*BackendConn]struct{}
	accepted int
	// commands are those read so far, of all connections, as they came
	commands []Command
	// fired are the events that happened
	fired map[string]bool
	// changed is closed and replaced whenever something above changes
	changed chan struct{}
}

// A BackendConn is the server's side of one connection.
type BackendConn struct {
	net.Conn
	Index   int // 0 for the backend's first connection
	Backend *Backend
	Timeout time.Duration // of each read; 0 = DefaultTimeout

	r       *reader
	split   int   // bytes a write, 0 = all at once
	cut     int64 // bytes until the connection breaks, -1 = never
	cutWith func() error
}

// A Handler speaks the server's side of one connection. The connection is
// closed when it returns. An error fails the test, unless it says no more than
// that the other side or the test itself ended the connection.
type Handler func(c *BackendConn) error

// A Command is one command that a client sent, with its literals.
type Command struct {
	Response        // Text and literals, as they came
	Conn     int    // BackendConn.Index
	Name     string // upper-cased; "UID FETCH" for UID commands; "" for a continuation such as DONE
	Args     string // what follows the name, literals as markers
}

// await blocks until ok, which is called with b.mu held.
func (b *Backend) await(what string, ok func() bool) error {
	timeout := time.NewTimer(DefaultTimeout)
	defer timeout.Stop()
	for {
		b.mu.Lock()
		done, changed := ok(), b.changed
		b.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-b.ctx.Done():
			return b.ctx.Err()
		case <-timeout.C:
			return fmt.Errorf("backend %s: waited %s for %s: %w", b.Addr, DefaultTimeout, what, os.ErrDeadlineExceeded)
		}
	}
}

func (b *Backend) changedLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// Wait blocks until an event has happened.
func (b *Backend) Wait(event string) error {
	return b.await("event "+event, func() bool { return b.fired[event] })
}

// parseCommand takes a client's command apart.
func parseCommand(u Response) Command {
	cmd := Command{Response: u}
	f := strings.SplitN(u.Text, " ", 3)
	if len(f) > 1 {
		cmd.Name = strings.ToUpper(f[1])
	}
	if len(f) > 2 {
		cmd.Args = f[2]
	}
	if cmd.Name == "UID" {
		sub, args, _ := strings.Cut(cmd.Args, " ")
		cmd.Name, cmd.Args = "UID "+strings.ToUpper(sub), args
	}
	return cmd
}

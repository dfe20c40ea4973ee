package conn

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNotWaiting is an error of Add: the connection can't be waited for here, and has to be
// waited for by a Pump.
var ErrNotWaiting = errors.New("conn: this connection isn't waited for")

// Sleeper owns a connection that is waited for.
type Sleeper interface {
	// Wake is called once for each Add, in a goroutine of its own: bytes have come, the
	// peer has ended the connection, or Waiting.Wake was called. From then on the
	// connection is the Sleeper's again.
	Wake()
}

// Waiting waits for many connections at once, in a set of its own (epoll(7)). A
// goroutine that waits in a Pump has a stack of 2 KB at least, more often 4, and
// half a KB beside it, which is more than all else that a parked session needs.
//
// It has connections whose owners have read all there was and have no
// goroutine. Each is woken once (Sleeper.Wake) and isn't in it any more then.
type Waiting struct {
	set *os.File // the epoll set; Go's own poller waits for it, so Run takes no thread
	raw syscall.RawConn
	fd  int // set's; it stays open until closed is true

	mu     sync.Mutex // guards what follows; epoll_ctl, which never waits, is called under it
	closed bool
	seats  []seat // by place, less 1
	free   uint32 // the first free place, 0: none
}

// seat is where a connection waits.
type seat struct {
	conn  *Conn
	owner Sleeper // nil: it is free
	turn  uint32  // how many have waited here: an event for an earlier one is stale
	next  uint32  // the next free place
}

// NewWaiting makes an empty Waiting. Its caller has to call Run.
func NewWaiting() (*Waiting, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or os.File wouldn't have it polled
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	w := &Waiting{set: os.NewFile(uintptr(fd), "epoll"), fd: fd}
	if w.raw, err = w.set.SyscallConn(); err != nil {
		_ = w.set.Close()
		return nil, err
	}
	return w, nil
}

// Run wakes the owners of connections on which bytes have come, until ctx ends; then it wakes all.
func (w *Waiting) Run(ctx context.Context) error {
	defer w.close()
	defer context.AfterFunc(ctx, func() { _ = w.set.SetReadDeadline(longAgo()) })()
	var events [128]unix.EpollEvent
	var n int
	var failed error
	look := func(fd uintptr) bool {
		for n, failed = 0, unix.EINTR; failed == unix.EINTR; {
			n, failed = unix.EpollWait(int(fd), events[:], 0)
		}
		return n > 0 || failed != nil
	}
	for {
		switch err := w.raw.Read(look); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case failed != nil:
			return os.NewSyscallError("epoll_wait", failed)
		}
		for _, e := range events[:n] {
			w.come(uint32(e.Fd), uint32(e.Pad))
		}
	}
}

// come wakes the owner that an event is for, if it still waits.
func (w *Waiting) come(place, turn uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := &w.seats[place-1]; s.owner != nil && s.turn == turn {
		w.wakeLocked(s)
	}
}

// Add waits for c, of which its owner has read all there was. When Add returns nil, the owner may
// have been woken already and c is no longer the caller's.
func (w *Waiting) Add(c *Conn, owner Sleeper) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrNotWaiting
	}
	if c.wanted {
		c.wanted = false
		go owner.Wake()
		return nil
	}
	if w.free == 0 {
		w.seats = append(w.seats, seat{})
		w.free = uint32(len(w.seats))
	}
	place := w.free
	s := &w.seats[place-1]
	err := w.controlLocked(c, unix.EPOLL_CTL_ADD, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(place), Pad: int32(s.turn),
	})
	if err != nil {
		return errors.Join(ErrNotWaiting, err)
	}
	w.free, s.next = s.next, 0
	s.conn, s.owner, c.place = c, owner, place
	return nil
}

// Wake wakes c's owner, or, if c isn't waited for, has the next Add wake it at once, so that an owner
// that is about to wait isn't missed. Any goroutine may call it.
func (w *Waiting) Wake(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.place == 0 {
		c.wanted = true
		return
	}
	w.wakeLocked(&w.seats[c.place-1])
}

// wakeLocked frees the seat, then gives the connection back.
func (w *Waiting) wakeLocked(s *seat) {
	c, owner := s.conn, s.owner
	_ = w.controlLocked(c, unix.EPOLL_CTL_DEL, nil) // its owner, which waited, hasn't closed it
	s.conn, s.owner = nil, nil
	s.turn++
	s.next, w.free, c.place = w.free, c.place, 0
	go owner.Wake() // the owner's goroutine
}

func (w *Waiting) controlLocked(c *Conn, op int, e *unix.EpollEvent) error {
	var err error
	if cerr := c.raw.Control(func(fd uintptr) { err = unix.EpollCtl(w.fd, op, int(fd), e) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("epoll_ctl", err)
}

func (w *Waiting) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for i := range w.seats {
		if s := &w.seats[i]; s.owner != nil {
			w.wakeLocked(s)
		}
	}
	_ = w.set.Close()
}

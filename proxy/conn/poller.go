package conn

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNotPolled is an error of Add: the Poller can't wait for the connection; a Pump has to.
var ErrNotPolled = errors.New("conn: this connection isn't waited for")

// Handler owns a connection that is in a Poller.
type Handler interface {
	// Wake is called once for each Add, in a new goroutine: data has arrived, the peer has ended its side, or
	// Poller.Wake was called. From then on the Handler owns the connection again.
	Wake()
}

// Poller waits for data on many connections with one epoll set (epoll(7)). A goroutine that waits in a Pump
// has a stack of at least 2 KB, more often 4, and half a KB of other memory, which is more than all other
// memory of a parked session.
//
// A connection is in a Poller while its owner has no goroutine and has read all data that it took from the socket
// (Conn.Holding). A wake (Handler.Wake) removes it. An owner of two connections may wait for both at once.
type Poller struct {
	set *os.File // the epoll set; Go's runtime waits for it, so Run blocks no thread
	raw syscall.RawConn
	fd  int // the descriptor of set; open until closed is true

	mu     sync.Mutex // guards closed, slots, free, and slot and wakePending of Conns; epoll_ctl, which doesn't block, is called under it
	closed bool
	slots  []slot // a connection's slot is index + 1
	free   uint32 // the first free slot, 0: none
}

// slot is the place of one connection, or of two with one owner.
type slot struct {
	conn       *Conn
	other      *Conn   // nil: there is none
	handler    Handler // nil: the slot is free
	generation uint32  // number of connections that were in the slot before; an event for one of them is stale
	next       uint32  // the next free slot
}

// NewPoller returns an empty Poller. Its caller has to call Run.
func NewPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // otherwise the runtime wouldn't poll the os.File
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &Poller{set: os.NewFile(uintptr(fd), "epoll"), fd: fd}
	if p.raw, err = p.set.SyscallConn(); err != nil {
		_ = p.set.Close()
		return nil, err
	}
	return p, nil
}

// Run wakes the handlers of connections on which data has arrived, until ctx ends; then it wakes all
// handlers.
func (p *Poller) Run(ctx context.Context) error {
	defer p.close()
	defer context.AfterFunc(ctx, func() { _ = p.set.SetReadDeadline(longAgo()) })()
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
		switch err := p.raw.Read(look); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case failed != nil:
			return os.NewSyscallError("epoll_wait", failed)
		}
		for _, e := range events[:n] {
			p.deliver(uint32(e.Fd), uint32(e.Pad))
		}
	}
}

// deliver wakes the handler that an event is for, if it is still in the Poller.
func (p *Poller) deliver(index, generation uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := &p.slots[index-1]; s.handler != nil && s.generation == generation {
		p.wakeLocked(s)
	}
}

// Add waits for data on c; the owner has read all data that had arrived. After Add has returned nil, the
// owner may have been woken already, and c no longer belongs to the caller.
func (p *Poller) Add(c *Conn, handler Handler) error { return p.AddBoth(c, nil, handler) }

// AddBoth is Add for two connections with one owner: what arrives on either wakes the handler, once. Wake takes c.
func (p *Poller) AddBoth(c, other *Conn, handler Handler) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrNotPolled
	}
	if c.wakePending {
		c.wakePending = false
		go handler.Wake()
		return nil
	}
	if p.free == 0 {
		p.slots = append(p.slots, slot{})
		p.free = uint32(len(p.slots))
	}
	index := p.free
	s := &p.slots[index-1]
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(index), Pad: int32(s.generation)}
	err := p.controlLocked(c, unix.EPOLL_CTL_ADD, &event)
	if err == nil && other != nil {
		if err = p.controlLocked(other, unix.EPOLL_CTL_ADD, &event); err != nil {
			_ = p.controlLocked(c, unix.EPOLL_CTL_DEL, nil)
			s.generation++ // an event for c may have been read already
		}
	}
	if err != nil {
		return errors.Join(ErrNotPolled, err)
	}
	p.free, s.next = s.next, 0
	s.conn, s.other, s.handler, c.slot = c, other, handler, index
	return nil
}

// Wake wakes c's handler. If c isn't in the Poller, the next Add wakes the handler at once, so that no wake
// is lost between the owner's last check and Add. Any goroutine may call Wake.
func (p *Poller) Wake(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.slot == 0 {
		c.wakePending = true
		return
	}
	p.wakeLocked(&p.slots[c.slot-1])
}

// wakeLocked frees the slot and wakes its handler.
func (p *Poller) wakeLocked(s *slot) {
	c, handler := s.conn, s.handler
	_ = p.controlLocked(c, unix.EPOLL_CTL_DEL, nil) // the owner, which had no goroutine, hasn't closed it
	if s.other != nil {
		_ = p.controlLocked(s.other, unix.EPOLL_CTL_DEL, nil)
	}
	s.conn, s.other, s.handler = nil, nil, nil
	s.generation++
	s.next, p.free, c.slot = p.free, c.slot, 0
	go handler.Wake() // from here on the owner's goroutine
}

func (p *Poller) controlLocked(c *Conn, op int, e *unix.EpollEvent) error {
	var err error
	if cerr := c.raw.Control(func(fd uintptr) { err = unix.EpollCtl(p.fd, op, int(fd), e) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("epoll_ctl", err)
}

func (p *Poller) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for i := range p.slots {
		if s := &p.slots[i]; s.handler != nil {
			p.wakeLocked(s)
		}
	}
	_ = p.set.Close()
}

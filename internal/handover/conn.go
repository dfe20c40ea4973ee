package handover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a message.
const (
	maxMessage = 256 << 10 // bytes
	maxSockets = 128       // the kernel passes 253 at once
	sendWithin = 5 * time.Second
)

// Message is one line of JSON. Do says what it is about; the other fields belong to it.
type Message struct {
	Do string `json:"do"`
	// Format is that of all later messages, in the first one of each end.
	Format int `json:"format,omitempty"`
	// Sockets describe those that come with the message, in their order.
	Sockets []Described `json:"sockets,omitempty"`

	PID     int    `json:"pid,omitempty"`
	PIDs    []int  `json:"pids,omitempty"`
	Version string `json:"version,omitempty"`
	Text    string `json:"text,omitempty"`
	Count   int    `json:"count,omitempty"`
	Until   int64  `json:"until,omitempty"` // milliseconds since 1970

	// Data is what internal/app says in a form of its own.
	Data json.RawMessage `json:"data,omitempty"`

	// What claims are about.
	ID      uint64 `json:"id,omitempty"`
	User    string `json:"user,omitempty"`
	Backend string `json:"backend,omitempty"`
	OK      bool   `json:"ok,omitempty"`
	Abort   bool   `json:"abort,omitempty"`
	Stays   []Stay `json:"stays,omitempty"`
}

// Format is the format of the messages. A process doesn't understand another's of a different format.
const Format = 1

// Described is what a message says about a socket.
type Described struct {
	Name    string `json:"name"`
	Address string `json:"address"` // in the configuration
}

// Stay says that a process has connections of a user at a backend.
type Stay struct{ User, Backend string }

// Conn carries messages. Send may be called by several goroutines at once, Receive by one.
type Conn struct {
	c    *net.UnixConn
	peer unix.Ucred

	sending sync.Mutex // held while a message is written

	read []byte // what was read and isn't returned yet
	fds  []int
}

// ErrPeer means that the other end isn't this proxy's: it runs as another user.
var ErrPeer = errors.New("the process at the other end runs as another user")

// newConn checks who is at the other end: may says whether a process of a uid may be there, where this one runs as own.
func newConn(c *net.UnixConn, may func(uid, own int) bool) (*Conn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	k := &Conn{c: c}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	k.peer = *peer
	if uid := int(peer.Uid); !may(uid, os.Geteuid()) {
		return nil, fmt.Errorf("%w: uid %d", ErrPeer, uid)
	}
	return k, nil
}

// permitted says whether a process of a uid may be at the other end of one that runs as own: the same user, and root.
func permitted(uid, own int) bool { return uid == own || uid == 0 }

// mayBeAsked says whether a command that runs as own may ask a process of a uid: root is let in by each.
func mayBeAsked(uid, own int) bool { return permitted(uid, own) || own == 0 }

// PID is the process at the other end, as the kernel knows it.
func (k *Conn) PID() int { return int(k.peer.Pid) }

// Send writes a message, with sockets. The caller still owns the sockets.
func (k *Conn) Send(m Message, with *Sockets) error {
	var fds []int
	if with != nil {
		if len(with.all) > maxSockets {
			return fmt.Errorf("handover: %d sockets are too many", len(with.all))
		}
		for _, o := range with.all {
			fds = append(fds, o.fd)
			m.Sockets = append(m.Sockets, Described{o.Name, o.Address})
		}
	}
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if len(line) > maxMessage {
		return errors.New("handover: the message is too long")
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	k.sending.Lock()
	defer k.sending.Unlock()
	_ = k.c.SetWriteDeadline(time.Now().Add(sendWithin)) // a peer that hangs must not stop this process
	n, _, err := k.c.WriteMsgUnix(line, rights, nil)
	if err == nil && n < len(line) {
		_, err = k.c.Write(line[n:])
	}
	if err != nil {
		_ = k.c.Close() // half a message may have been sent
	}
	return err
}

// Receive reads the next message, and the sockets that came with it, which the caller owns. It waits until the
// deadline; zero: without end.
func (k *Conn) Receive(deadline time.Time) (Message, *Sockets, error) {
	if err := k.c.SetReadDeadline(deadline); err != nil {
		return Message{}, nil, err
	}
	for {
		if i := bytes.IndexByte(k.read, '\n'); i >= 0 {
			line := k.read[:i]
			k.read = k.read[i+1:]
			return k.message(line)
		}
		if len(k.read) > maxMessage {
			return Message{}, nil, errors.New("handover: the message is too long")
		}
		if err := k.more(); err != nil {
			return Message{}, nil, err
		}
	}
}

// message decodes a line. The sockets that were read with it belong to it.
func (k *Conn) message(line []byte) (Message, *Sockets, error) {
	var m Message
	if err := json.Unmarshal(line, &m); err != nil {
		return m, nil, fmt.Errorf("handover: not a message: %w", err)
	}
	if len(m.Sockets) == 0 {
		return m, nil, nil
	}
	if len(m.Sockets) != len(k.fds) {
		return m, nil, fmt.Errorf("handover: %d sockets are said to come, %d have come", len(m.Sockets), len(k.fds))
	}
	with := &Sockets{}
	for i, d := range m.Sockets {
		with.Add(&Socket{Name: d.Name, Address: d.Address, fd: k.fds[i]})
	}
	k.fds = nil
	return m, with, nil
}

// more reads what has come.
func (k *Conn) more() error {
	data, control := make([]byte, 16<<10), make([]byte, unix.CmsgSpace(4*maxSockets))
	n, oob, flags, _, err := k.c.ReadMsgUnix(data, control)
	if err != nil {
		return err
	}
	if oob > 0 {
		if err := k.rights(control[:oob]); err != nil {
			return err
		}
	}
	switch {
	case flags&unix.MSG_CTRUNC != 0:
		return errors.New("handover: not all sockets have come: too few descriptors")
	case n == 0:
		return net.ErrClosed
	}
	k.read = append(k.read, data[:n]...)
	return nil
}

// rights keeps the descriptors that have come.
func (k *Conn) rights(control []byte) error {
	all, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return err
	}
	for _, one := range all {
		fds, err := syscall.ParseUnixRights(&one)
		if err != nil {
			return err
		}
		k.fds = append(k.fds, fds...)
	}
	if len(k.fds) > maxSockets {
		return errors.New("handover: too many sockets")
	}
	return nil
}

// Close closes the connection, and the sockets that no message has had. It may be called while Receive waits, which then
// fails; Receive's caller calls it once more.
func (k *Conn) Close() error { return k.c.Close() }

// Drop closes the sockets that came and belong to no message. Receive's caller calls it at the end.
func (k *Conn) Drop() {
	for _, fd := range k.fds {
		_ = unix.Close(fd)
	}
	k.fds = nil
}

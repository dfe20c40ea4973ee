package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Bare relays: they pass bytes on between each client and the null backend, and follow nothing. What they take of the processor is the
// least that a relay in Go can take in the clear, with the runtime's poller and two goroutines a session as the proxy has them, or with
// event loops that wait in epoll_wait(2) themselves.

// The kinds of bare relays.
const (
	bareGoroutines = "goroutines"
	bareLoop       = "loop"
)

// bareBuffer is how many bytes a bare relay reads at once.
const bareBuffer = 64 << 10

// serveBare listens, writes its address in a line, and relays to the backend until in ends.
func serveBare(kind, backend string, in io.Reader, out io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	relay := relayByGoroutines
	if kind == bareLoop {
		if relay, err = loops(runtime.GOMAXPROCS(0)); err != nil {
			return err
		}
	}
	go func() { // ends with its listener
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", backend)
			if err != nil {
				_ = client.Close()
				continue
			}
			relay(client.(*net.TCPConn), server.(*net.TCPConn))
		}
	}()
	if _, err := fmt.Fprintln(out, listener.Addr()); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, in)
	return nil
}

// relayByGoroutines relays by a goroutine for each direction.
func relayByGoroutines(client, server *net.TCPConn) {
	pass := func(to, from *net.TCPConn) {
		buf := make([]byte, bareBuffer)
		for {
			n, err := from.Read(buf)
			if err == nil {
				_, err = to.Write(buf[:n])
			}
			if err != nil {
				_, _ = to.Close(), from.Close()
				return
			}
		}
	}
	go pass(server, client) // ends with the connections
	go pass(client, server) // so does this
}

// loops starts event loops, and returns how one of them, by turns, is given a session.
func loops(n int) (func(client, server *net.TCPConn), error) {
	sets := make([]int, n)
	for i := range sets {
		var err error
		if sets[i], err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return nil, os.NewSyscallError("epoll_create1", err)
		}
		go loop(sets[i]) // ends with the process
	}
	next := 0
	return func(client, server *net.TCPConn) {
		a, errA := bareDescriptor(client)
		b, errB := bareDescriptor(server)
		if errors.Join(errA, errB) != nil {
			return
		}
		set := sets[next%n]
		next++
		// An event carries the descriptor to read and, in place of padding, the one to write.
		for _, e := range []unix.EpollEvent{{Fd: int32(a), Pad: int32(b)}, {Fd: int32(b), Pad: int32(a)}} {
			e.Events = unix.EPOLLIN
			_ = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, int(e.Fd), &e)
		}
	}, nil
}

// bareDescriptor takes a connection's descriptor from Go's poller.
func bareDescriptor(c *net.TCPConn) (int, error) {
	defer func() { _ = c.Close() }()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(of uintptr) { fd, dupErr = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	return fd, dupErr
}

// loop relays for the sessions of one epoll set. It reads once for each event: what is left causes another one. A write that the socket
// has no room for is waited for.
func loop(set int) {
	runtime.LockOSThread()
	var events [128]unix.EpollEvent
	buf := make([]byte, bareBuffer)
	for {
		n, err := unix.EpollWait(set, events[:], -1)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, e := range events[:max(n, 0)] {
			read, err := unix.Read(int(e.Fd), buf)
			if err == unix.EAGAIN || err == unix.EINTR {
				continue
			}
			if err != nil || read == 0 || writeAll(int(e.Pad), buf[:read]) != nil {
				_ = unix.EpollCtl(set, unix.EPOLL_CTL_DEL, int(e.Fd), nil)
				_ = unix.Shutdown(int(e.Pad), unix.SHUT_RDWR) // the other direction ends by it; both descriptors stay until the process ends
			}
		}
	}
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		switch err {
		case nil:
			b = b[n:]
		case unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		case unix.EINTR:
		default:
			return err
		}
	}
	return nil
}

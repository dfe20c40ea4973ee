package conn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"imapproxy/internal/imaptest"
)

// A write of any size that finds no room waits, and goes on where it stopped.
func TestAWriteWaitsForRoom(t *testing.T) {
	for name, size := range map[string]int{"small": 1 << 10, "of a record's size": 16 << 10, "large": 64 << 10} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := tcpPair(t)
			sent := make([]byte, 16<<20) // more than the kernel holds
			for i := 0; i < len(sent); i += 1000 {
				sent[i] = byte(i / 1000)
			}
			done := make(chan error, 1)
			go func() {
				for b := sent; len(b) > 0; {
					n, err := ours.Write(b[:min(size, len(b))])
					if err != nil || n != min(size, len(b)) {
						done <- errors.Join(err, io.ErrShortWrite)
						return
					}
					b = b[n:]
				}
				done <- ours.CloseWrite()
			}()
			full(t, ours)
			got, err := io.ReadAll(theirs)
			must(t, err)
			must(t, <-done)
			if !bytes.Equal(got, sent) {
				t.Errorf("%d bytes have arrived, %d were sent, or they differ", len(got), len(sent))
			}
		})
	}
}

// A write whose peer doesn't read ends when it is interrupted, and says how many bytes the kernel has taken.
func TestAWriteIsInterrupted(t *testing.T) {
	ours, theirs := tcpPair(t)
	sent, done := 0, make(chan error, 1)
	go func() {
		line := make([]byte, 1<<10)
		for {
			n, err := ours.Write(line)
			if sent += n; err != nil {
				done <- err
				return
			}
		}
	}()
	full(t, ours)
	ours.Interrupt(Writes)
	var op *net.OpError
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &op) || op.Op != "write" {
		t.Fatal(err)
	}
	must(t, ours.CloseWrite())
	if got, err := io.Copy(io.Discard, theirs); err != nil || got != int64(sent) {
		t.Errorf("%d bytes have arrived, %d were taken (%v)", got, sent, err)
	}
}

// full returns when the kernel has bytes of c's that it can't send, and takes no more.
func full(t *testing.T, c *Conn) {
	t.Helper()
	imaptest.Eventually(t, "a full socket", func() bool {
		if !c.Backlogged() {
			return false
		}
		p := []unix.PollFd{{Events: unix.POLLOUT}}
		must(t, c.raw.Control(func(fd uintptr) {
			p[0].Fd = int32(fd)
			_, _ = unix.Poll(p, 0)
		}))
		return p[0].Revents == 0
	})
}

// A write to a peer that has gone has the error and the addresses that the net package's would have.
func TestAWriteToAPeerThatHasGoneFails(t *testing.T) {
	ours, theirs := tcpPair(t)
	must(t, theirs.SetLinger(0))
	must(t, theirs.Close())
	var err error
	for err == nil {
		_, err = ours.Write([]byte("* OK Still here\r\n"))
	}
	var op *net.OpError
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) || !errors.As(err, &op) || op.Op != "write" || op.Addr != ours.RemoteAddr() {
		t.Errorf("%v", err)
	}
	must(t, ours.Close())
	if _, err := ours.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

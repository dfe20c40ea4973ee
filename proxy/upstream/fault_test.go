package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
)

// A shortage of the proxy's own is never the backend's fault, whichever it is and
// wherever it shows.
func TestAShortageIsTheProxysOwn(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOMEM, syscall.ENOBUFS, syscall.EAGAIN} {
		t.Run(errno.Error(), func(t *testing.T) {
			d := newDialer(t, Options{Dialer: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
			}})
			_, err := d.Login(t.Context(), Target{ID: "b1", Address: "192.0.2.1:143"}, alice, Client{})
			var down *Unavailable
			if !errors.As(err, &down) || down.Fault() != FaultOwn || down.BackendDown() {
				t.Fatalf("got %v", err)
			}
			if _, err := d.Probe(t.Context(), Target{ID: "b1", Address: "192.0.2.1:143"}); !IsShortage(err) {
				t.Errorf("a probe says %v", err)
			}
		})
	}
	for _, errno := range []syscall.Errno{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ECONNRESET} {
		if err := fmt.Errorf("connect: %w", errno); IsShortage(err) {
			t.Errorf("%v is called a shortage", err)
		}
	}
}

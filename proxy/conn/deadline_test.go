package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"testing"
	"time"
)

// The owner's own bound takes nothing back of what another has interrupted meanwhile.
func TestWhoInterruptsWhatIsBoundToAContextIsHeard(t *testing.T) {
	for name, interrupt := range map[string]func(c *Conn, cancel func()){
		"before it ends": func(c *Conn, cancel func()) { c.Interrupt(Both); cancel() },
		"after":          func(c *Conn, cancel func()) { cancel(); c.Interrupt(Both) },
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := tcpPair(t)
			ctx, cancel := context.WithCancel(t.Context())
			stop := ours.Until(ctx)
			interrupt(ours, cancel)
			if !stop() {
				t.Error("it hasn't ended")
			}
			must(t, write(theirs, []byte("x")))
			if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a read: %v", err)
			}
			if _, err := ours.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a write: %v", err)
			}
			ours.Rearm(Both)
			if _, err := ours.Read(make([]byte, 1)); err != nil {
				t.Errorf("rearmed: %v", err)
			}
		})
	}
}

// What a context has ended is rearmed when its owner is done with that, and no sooner.
func TestAContextsEndHoldsUntilItIsStopped(t *testing.T) {
	ours, theirs := tcpPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	stop := ours.Until(ctx)
	cancel()
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	must(t, write(theirs, []byte("x")))
	ours.Rearm(Both)
	ours.LimitReads(time.Now().Add(time.Hour))
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	stop()
	if _, err := ours.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// TLS sets deadlines of its own to say close_notify.
func TestAnInterruptedConnectionSaysNoCloseNotify(t *testing.T) {
	ours, _ := tlsPair(t, tls.VersionTLS13, asIs)
	ours.Interrupt(Both)
	if err := ours.CloseWrite(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the end: %v", err)
	}
}

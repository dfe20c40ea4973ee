package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

// waitingRoom is a Room with so many connections to b1, all of which wait.
func waitingRoom(o RoomOptions, n int) (r *Room, waiting *int) {
	r, waiting = NewRoom(o), new(int)
	r.Evicts(func(_ string, n int) int {
		n = min(n, *waiting)
		*waiting -= n
		for range n {
			r.leave("b1")
		}
		return n
	}, func(int) int { return 0 })
	for range n {
		r.enter("b1")(true)
		*waiting++
	}
	return r, waiting
}

// discoveryBye is a probe's failure as discovery has it.
type discoveryBye string

func (e discoveryBye) Error() string { return string(e) }
func (e discoveryBye) Bye() string   { return string(e) }

// A backend that restarts while connections wait in the pool is down: that it can't be
// reached says nothing of room, is no reason to close what waits, and bounds no later connections.
func TestOnlyWhatAFullBackendDoesIsExcused(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	at := func(stage string, err error) error { return &Unavailable{Stage: stage, Err: err} }
	for name, c := range map[string]struct {
		err             error
		excused, learns bool
	}{
		"nothing listens":          {at(StageDial, dial(syscall.ECONNREFUSED)), false, false},
		"nothing listens, static":  {dial(syscall.ECONNREFUSED), false, false},
		"no route":                 {dial(syscall.EHOSTUNREACH), false, false},
		"no TCP connection":        {at(StageDial, fmt.Errorf("%w after 3s", ErrTimeout)), false, false},
		"no TCP, static":           {dial(os.ErrDeadlineExceeded), false, false},
		"certificate":              {at(StageTLS, x509.UnknownAuthorityError{}), false, false},
		"not IMAP":                 {at(StageGreeting, ErrProtocol), false, false},
		"silence":                  {at(StageGreeting, fmt.Errorf("%w after 3s", ErrTimeout)), true, true},
		"silence under TLS":        {at(StageTLS, ErrTimeout), true, true},
		"silence, static":          {fmt.Errorf("no greeting: %w", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}), true, true},
		"silence at TLS, static":   {fmt.Errorf("tls: %w", context.DeadlineExceeded), true, true},
		"closed":                   {at(StageGreeting, io.EOF), true, false},
		"BYE":                      {&Unavailable{Stage: StageGreeting, Code: "UNAVAILABLE", Err: fmt.Errorf("greeting: %w", errBye)}, true, true},
		"BYE, static":              {discoveryBye("* BYE [UNAVAILABLE] later"), true, true},
		"queue full":               {&Unavailable{Stage: StageGreeting, Text: "Connection queue full", Err: errBye}, true, true},
		"queue full, static":       {discoveryBye("* BYE Connection queue full"), true, true},
		"the proxy's own shortage": {dial(syscall.EMFILE), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, waiting := waitingRoom(RoomOptions{}, 40)
			if got := r.Excuses("b1", c.err); got != c.excused {
				t.Errorf("excused: %v", got)
			}
			if s := r.Status("b1"); (s.Learnt > 0) != c.learns {
				t.Errorf("learnt: %+v", s)
			}
			if !c.excused && *waiting < 40 {
				t.Errorf("%d that waited were closed", 40-*waiting)
			}
		})
	}
}

// A backend that hangs is called down after a few probes, however many connections wait. One
// that greets in between was full, and one that says that it's full lives.
func TestAHungBackendIsExcusedAFewTimes(t *testing.T) {
	silence := &Unavailable{Stage: StageGreeting, Err: ErrTimeout}
	r, waiting := waitingRoom(RoomOptions{}, 1024)
	row := func() (n int) {
		for n < 20 && r.Excuses("b1", silence) {
			n++
		}
		return n
	}
	if n := row(); n != excusesInARow {
		t.Errorf("%d failures in a row were excused", n)
	}
	if *waiting != 1024*7/8*3/4/2 {
		t.Errorf("%d still wait", *waiting)
	}
	if !r.Excuses("b1", &Unavailable{Stage: StageGreeting, Text: "Too many connections", Err: errBye}) {
		t.Error("a backend that says that it is full isn't excused")
	}
	r.Answered("b1")
	if n := row(); n != excusesInARow {
		t.Errorf("after a probe that succeeded %d were excused", n)
	}
	r.enter("b1")(true)
	*waiting += 10
	if n := row(); n != excusesInARow {
		t.Errorf("after a login %d were excused", n)
	}
	*waiting = 0
	r.enter("b1")(true)
	if r.Excuses("b1", errors.New("EOF")) {
		t.Error("excused though none waits")
	}
}

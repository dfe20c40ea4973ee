package conn

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"sync"
	"testing"

	"imapproxy/internal/imaptest"
)

// sleeper reads a connection as a parked session does: what there is, and then it
// sleeps.
type sleeper struct {
	c     *Conn
	w     *Waiting
	pool  *Pool
	wakes chan error // one for each stretch awake: why it ended
	heard bytes.Buffer
}

func (s *sleeper) Chunk(b []byte) (int, Next) {
	s.heard.Write(b)
	return 0, More
}

func (s *sleeper) Wake() { s.wakes <- s.c.Drain(s.pool, s) }

func waiting(t *testing.T) *Waiting {
	t.Helper()
	w, err := NewWaiting()
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	t.Cleanup(func() { cancel(); must(t, <-ran) })
	return w
}

func TestASleeperIsWokenByDataAndByTheEnd(t *testing.T) {
	ours, theirs := tcpPair(t)
	s := &sleeper{c: ours, w: waiting(t), pool: NewPool(), wakes: make(chan error, 1)}
	must(t, s.w.Add(ours, s))
	for _, line := range []string{"one\r\n", "two\r\n"} {
		s.heard.Reset()
		_, err := io.WriteString(theirs, line)
		must(t, err)
		if err := <-s.wakes; err != ErrDry || s.heard.String() != line {
			t.Fatalf("woken with %q, %v", s.heard.String(), err)
		}
		must(t, s.w.Add(ours, s))
	}
	must(t, theirs.CloseWrite())
	if err := <-s.wakes; err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
}

func TestDataThatCameBeforeAddWakesAtOnce(t *testing.T) {
	ours, theirs := tcpPair(t)
	s := &sleeper{c: ours, w: waiting(t), pool: NewPool(), wakes: make(chan error, 1)}
	_, err := io.WriteString(theirs, "early")
	must(t, err)
	must(t, s.w.Add(ours, s))
	if err := <-s.wakes; err != ErrDry || s.heard.String() != "early" {
		t.Fatalf("woken with %q, %v", s.heard.String(), err)
	}
}

func TestAWakeBeforeAddIsNotLostAndOneAfterItComesOnce(t *testing.T) {
	ours, _ := tcpPair(t)
	s := &sleeper{c: ours, w: waiting(t), pool: NewPool(), wakes: make(chan error, 2)}
	s.w.Wake(ours)
	must(t, s.w.Add(ours, s))
	if err := <-s.wakes; err != ErrDry {
		t.Fatal(err)
	}
	must(t, s.w.Add(ours, s))
	s.w.Wake(ours)
	if err := <-s.wakes; err != ErrDry {
		t.Fatal(err)
	}
	if len(s.wakes) != 0 {
		t.Error("woken twice for one Add")
	}
}

func TestTheEndOfAWaitingWakesEverybody(t *testing.T) {
	w, err := NewWaiting()
	must(t, err)
	ours, _ := tcpPair(t)
	s := &sleeper{c: ours, w: w, pool: NewPool(), wakes: make(chan error, 1)}
	must(t, w.Add(ours, s))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	must(t, w.Run(ctx))
	if err := <-s.wakes; err != ErrDry {
		t.Fatal(err)
	}
	if err := w.Add(ours, s); !errors.Is(err, ErrNotWaiting) {
		t.Errorf("Add afterwards: %v", err)
	}
}

func TestACloseLeavesNoSeatBehind(t *testing.T) {
	w := waiting(t)
	for range 3 {
		ours, _ := tcpPair(t)
		s := &sleeper{c: ours, w: w, pool: NewPool(), wakes: make(chan error, 1)}
		must(t, w.Add(ours, s))
		w.Wake(ours)
		<-s.wakes
		must(t, ours.Close())
		if err := w.Add(ours, s); !errors.Is(err, ErrNotWaiting) {
			t.Errorf("Add of a closed one: %v", err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seats) != 1 {
		t.Errorf("%d seats for one at a time", len(w.seats))
	}
}

// TestManySleepersHearAllThatIsSaid has what comes, wakes and ends meet in every
// order, under TLS too.
func TestManySleepersHearAllThatIsSaid(t *testing.T) {
	w, pool, cert := waiting(t), NewPool(), imaptest.NewCert(t)
	var wg sync.WaitGroup
	for i := range 64 {
		ours, tcp := tcpPair(t)
		var theirs interface {
			io.Writer
			CloseWrite() error
		} = tcp
		if i%2 == 1 {
			under := tls.Client(tcp, cert.Client)
			wg.Go(func() { _ = under.Handshake() })
			must(t, ours.Server(t.Context(), cert.Server))
			wg.Wait()
			theirs = under
		}
		s := &sleeper{c: ours, w: w, pool: pool, wakes: make(chan error)}
		var said bytes.Buffer
		wg.Go(func() {
			for n := range 200 {
				line := bytes.Repeat([]byte{byte('a' + n%26)}, 1+n*i%300)
				said.Write(line)
				if _, err := theirs.Write(line); err != nil {
					t.Error(err)
				}
			}
			_ = theirs.CloseWrite()
		})
		wg.Go(func() {
			for range 100 {
				w.Wake(ours)
			}
		})
		wg.Go(func() {
			for {
				ours.Trim()
				if err := w.Add(ours, s); err != nil {
					t.Error(err)
					return
				}
				if err := <-s.wakes; err != ErrDry {
					if err != io.EOF {
						t.Error(err)
					}
					return
				}
			}
		})
		t.Cleanup(func() {
			if !bytes.Equal(said.Bytes(), s.heard.Bytes()) {
				t.Errorf("said %d bytes, heard %d", said.Len(), s.heard.Len())
			}
		})
	}
	wg.Wait()
}

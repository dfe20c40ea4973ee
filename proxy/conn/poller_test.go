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

// handler reads a connection as a parked session does: it reads all data, then waits in the Poller.
type handler struct {
	c     *Conn
	w     *Poller
	pool  *Pool
	wakes chan error // the result of each Drain
	heard bytes.Buffer
}

func (s *handler) Chunk(b []byte) (int, Next) {
	s.heard.Write(b)
	return 0, More
}

func (s *handler) Wake() { s.wakes <- s.c.Drain(s.pool, s) }

func newPoller(t *testing.T) *Poller {
	t.Helper()
	w, err := NewPoller()
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	t.Cleanup(func() { cancel(); must(t, <-ran) })
	return w
}

func TestAHandlerIsWokenByDataAndByTheEnd(t *testing.T) {
	ours, theirs := tcpPair(t)
	s := &handler{c: ours, w: newPoller(t), pool: NewPool(), wakes: make(chan error, 1)}
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

// An owner of two connections is woken once, by whichever of the two has something; neither then remains in the epoll set.
func TestAHandlerOfTwoConnectionsIsWokenByEither(t *testing.T) {
	one, its := tcpPair(t)
	other, others := tcpPair(t)
	s := &handler{c: one, w: newPoller(t), pool: NewPool(), wakes: make(chan error, 2)}
	for range 2 {
		must(t, s.w.AddBoth(one, other, s))
		_, err := io.WriteString(others, "from the other")
		must(t, err)
		if err := <-s.wakes; err != ErrDry || s.heard.Len() > 0 {
			t.Fatalf("woken with %q, %v", s.heard.String(), err)
		}
		if b := make([]byte, len("from the other")); !other.HasUnread() {
			t.Fatal("nothing has come")
		} else if _, err := io.ReadFull(other, b); err != nil {
			t.Fatal(err)
		}
		must(t, s.w.AddBoth(one, other, s))
		_, err = io.WriteString(its, "from the one")
		must(t, err)
		if err := <-s.wakes; err != ErrDry || s.heard.String() != "from the one" {
			t.Fatalf("woken with %q, %v", s.heard.String(), err)
		}
		s.heard.Reset()
	}
	must(t, s.w.AddBoth(one, other, s))
	s.w.Wake(one)
	<-s.wakes
	must(t, s.w.AddBoth(one, other, s))
	must(t, others.Close())
	if err := <-s.wakes; err != ErrDry {
		t.Fatal(err)
	}
	if len(s.wakes) > 0 {
		t.Error("woken twice for one AddBoth")
	}
}

// If one of two connections can't be waited for, neither is.
func TestAHandlerOfTwoConnectionsGetsBothOrNone(t *testing.T) {
	one, its := tcpPair(t)
	closed, _ := tcpPair(t)
	must(t, closed.Close())
	s := &handler{c: one, w: newPoller(t), pool: NewPool(), wakes: make(chan error, 2)}
	if err := s.w.AddBoth(one, closed, s); !errors.Is(err, ErrNotPolled) {
		t.Fatal(err)
	}
	_, err := io.WriteString(its, "early")
	must(t, err)
	must(t, s.w.Add(one, s))
	if err := <-s.wakes; err != ErrDry || s.heard.String() != "early" || len(s.wakes) > 0 {
		t.Fatalf("woken with %q, %v", s.heard.String(), err)
	}
}

func TestDataThatCameBeforeAddWakesAtOnce(t *testing.T) {
	ours, theirs := tcpPair(t)
	s := &handler{c: ours, w: newPoller(t), pool: NewPool(), wakes: make(chan error, 1)}
	_, err := io.WriteString(theirs, "early")
	must(t, err)
	must(t, s.w.Add(ours, s))
	if err := <-s.wakes; err != ErrDry || s.heard.String() != "early" {
		t.Fatalf("woken with %q, %v", s.heard.String(), err)
	}
}

func TestAWakeBeforeAddIsNotLostAndOneAfterItComesOnce(t *testing.T) {
	ours, _ := tcpPair(t)
	s := &handler{c: ours, w: newPoller(t), pool: NewPool(), wakes: make(chan error, 2)}
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

func TestTheEndOfThePollerWakesAllHandlers(t *testing.T) {
	w, err := NewPoller()
	must(t, err)
	ours, _ := tcpPair(t)
	s := &handler{c: ours, w: w, pool: NewPool(), wakes: make(chan error, 1)}
	must(t, w.Add(ours, s))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	must(t, w.Run(ctx))
	if err := <-s.wakes; err != ErrDry {
		t.Fatal(err)
	}
	if err := w.Add(ours, s); !errors.Is(err, ErrNotPolled) {
		t.Errorf("Add afterwards: %v", err)
	}
}

func TestACloseLeavesNoSlotBehind(t *testing.T) {
	w := newPoller(t)
	for range 3 {
		ours, _ := tcpPair(t)
		s := &handler{c: ours, w: w, pool: NewPool(), wakes: make(chan error, 1)}
		must(t, w.Add(ours, s))
		w.Wake(ours)
		<-s.wakes
		must(t, ours.Close())
		if err := w.Add(ours, s); !errors.Is(err, ErrNotPolled) {
			t.Errorf("Add of a closed one: %v", err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.slots) != 1 {
		t.Errorf("%d seats for one at a time", len(w.slots))
	}
}

// TestManyHandlersReadAllThatIsSent makes data, wakes and ends of connections coincide in all orders, also
// under TLS.
func TestManyHandlersReadAllThatIsSent(t *testing.T) {
	w, pool, cert := newPoller(t), NewPool(), imaptest.NewCert(t)
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
		s := &handler{c: ours, w: w, pool: pool, wakes: make(chan error)}
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
				ours.Trim(pool)
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

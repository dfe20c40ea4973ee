package model

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// breaker stands between the proxy and the server, and cuts connections after some octets, in either direction: within
// responses and commands, and between them. Some are black holes first: they stay open for a while, and what either
// side sends is lost.
type breaker struct {
	addr    string
	backend string
	breaks  atomic.Int64
}

// The octets of a connection before it is cut: its login, and as many again on average.
const (
	sparedOctets = 1500
	meanOctets   = 3 << 10
)

// How many of the cut connections are black holes first, and for how long.
const (
	oneHoleOf = 4
	meanHole  = 100 * time.Millisecond
)

// newBreaker listens until the test's end.
func newBreaker(t testing.TB, backend string) *breaker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	b := &breaker{addr: ln.Addr().String(), backend: backend}
	var running sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", backend)
			if err != nil {
				_ = c.Close()
				continue
			}
			mu.Lock()
			open[c], open[s] = true, true
			mu.Unlock()
			left := &atomic.Int64{}
			left.Store(sparedOctets + int64(rand.ExpFloat64()*meanOctets))
			cut := func() {
				mu.Lock()
				defer mu.Unlock()
				delete(open, c)
				delete(open, s)
				reset(c)
				reset(s)
			}
			running.Go(func() {
				var both sync.WaitGroup
				both.Go(func() { b.carry(c, s, left, cut) })
				both.Go(func() { b.carry(s, c, left, cut) })
				both.Wait()
				mu.Lock()
				defer mu.Unlock()
				delete(open, c)
				delete(open, s)
				_, _ = c.Close(), s.Close() // a connection that nothing closes costs two descriptors until the test's end
			})
		}
	})
	t.Cleanup(func() { // the proxy has ended
		_ = ln.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return b
}

// reset closes a connection by a FIN or by an RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok && rand.IntN(2) == 0 {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// carry copies until the octets are used up or one side ends.
func (b *breaker) carry(from, to net.Conn, left *atomic.Int64, cut func()) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			rest := left.Add(-int64(n))
			if rest < 0 && rest+int64(n) < 0 {
				continue // it is a black hole by now
			}
			if rest < 0 { // up to here, and no further
				_, _ = to.Write(buf[:rest+int64(n)])
				b.breaks.Add(1)
				if rand.IntN(oneHoleOf) == 0 {
					time.AfterFunc(time.Duration(rand.ExpFloat64()*float64(meanHole)), cut)
					continue
				}
				cut()
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				_ = from.Close() // its writer ends as well
				return
			}
		}
		switch tcp, ok := to.(*net.TCPConn); {
		case err == nil:
		case ok && errors.Is(err, io.EOF):
			_ = tcp.CloseWrite()
			return
		default:
			_ = to.Close() // its reader ends as well
			return
		}
	}
}

// count is how many connections have been cut.
func (b *breaker) count() int64 {
	if b == nil {
		return 0
	}
	return b.breaks.Load()
}

// errTold: a response is one that the client may not be sent. No loss of a connection excuses it.
var errTold = errors.New("a client is told what it may not be told")

// excused says whether an operation that has failed may have: a connection to the server was cut meanwhile, and nothing
// wrong was told.
func (w *world) excused(err error, breaks int64) bool {
	return (w.l.breaker.count() != breaks || w.l.breaks && errors.Is(err, errCut)) && !errors.Is(err, errTold)
}

// comeBack has all clients connect again, after an operation that a loss has ended in the middle.
func (w *world) comeBack() error {
	w.stats.losses++
	for i, c := range w.clients {
		if err := c.drain(); err != nil && !errors.Is(err, errCut) {
			return err
		}
		if c.bye != "" || c.ended {
			w.stats.byes[c.bye]++
		}
		for try := 0; ; try++ {
			n, err := c.resync()
			if n != nil {
				w.clients[i] = n
			}
			if err == nil {
				break
			}
			if errors.Is(err, errTold) || try == 20 {
				return err
			}
			if n != nil {
				c = n
			}
		}
	}
	_, err := w.w.look()
	return err
}

// A connection whose last octet was the end of what one side had sent is cut as well, at the next one.
func TestABreakerCutsBetweenWrites(t *testing.T) {
	client, in := net.Pipe()
	out, server := net.Pipe()
	var left atomic.Int64
	left.Store(5)
	cut := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		(&breaker{}).carry(in, out, &left, func() {
			_ = in.Close()
			close(cut)
		})
	})
	t.Cleanup(func() {
		_ = in.Close()
		_ = out.Close()
		running.Wait()
	})
	_, err := client.Write([]byte("12345"))
	must(t, err)
	_, err = io.ReadFull(server, make([]byte, 5))
	must(t, err)
	running.Go(func() { _, _ = io.Copy(io.Discard, server) })
	_, err = client.Write([]byte("6"))
	must(t, err)
	select {
	case <-cut:
	case <-time.After(30 * time.Second):
		t.Fatal("it is a black hole for ever")
	}
}

// The answer to a STORE .SILENT is lost with the connection: it may have been done or not, and the client doesn't believe either.
func TestAStoreWithoutAnAnswerIsntBelieved(t *testing.T) {
	box := imaptest.NewModelMailbox(1)
	box.Append()
	in := make(chan imaptest.Response)
	close(in)
	c := &client{dialing: dialing{t: &transcript{}, name: "C1", patience: time.Minute}, in: in, model: imaptest.NewModelClient(imaptest.ModelPlain, box)}
	cmd := &command{verb: "STORE", silent: []uint32{1}, flag: `\Seen`, on: true}
	c.mark(cmd)
	if _, err := c.answered(cmd, "t1"); !errors.Is(err, errCut) {
		t.Fatalf("it is answered: %v", err)
	}
	if m := c.model.Belief()[0]; m.Flags != nil {
		t.Errorf("the client believes %v", m.Flags)
	}
}

// A STORE of a message that has gone changes nothing of it, and its last flags may be told.
func TestAStoreOfAMessageThatHasGone(t *testing.T) {
	for _, there := range []bool{true, false} {
		box := imaptest.NewModelMailbox(1)
		uid := box.Append("kw3")
		c := &client{model: imaptest.NewModelClient(imaptest.ModelPlain, box)}
		cmd := &command{verb: "STORE", silent: []uint32{uid}, flag: "kw3", marked: true, there: func(uint32) bool { return there }}
		if err := c.markedIt(cmd, true); (err == nil) == there {
			t.Errorf("there %v: %v", there, err)
		}
	}
}

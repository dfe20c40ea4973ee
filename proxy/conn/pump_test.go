package conn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// limit bounds every wait of these tests.
const limit = 20 * time.Second

// tcpPair is the two ends of a loopback connection.
func tcpPair(t testing.TB) (ours *Conn, theirs *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	dialled, err := net.Dial("tcp", ln.Addr().String())
	must(t, err)
	accepted, err := ln.Accept()
	must(t, err)
	c, err := New(accepted.(*net.TCPConn))
	must(t, err)
	t.Cleanup(func() { _ = c.Close(); _ = dialled.Close() })
	must(t, c.SetDeadline(time.Now().Add(limit)))
	must(t, dialled.SetDeadline(time.Now().Add(limit)))
	return c, dialled.(*net.TCPConn)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// corked keeps what is written, once it is on, until its writer reads or
// uncorks it: what a client sends then arrives in one piece.
type corked struct {
	net.Conn
	on   bool
	kept []byte
}

func (c *corked) Write(p []byte) (int, error) {
	if !c.on {
		return c.Conn.Write(p)
	}
	c.kept = append(c.kept, p...)
	return len(p), nil
}

func (c *corked) Read(p []byte) (int, error) {
	if err := c.uncork(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *corked) uncork() error {
	b := c.kept
	c.kept = nil
	if len(b) == 0 {
		return nil
	}
	_, err := c.Conn.Write(b)
	return err
}

// chopped writes n bytes at a time.
type chopped struct {
	net.Conn
	n int
}

func (c chopped) Write(p []byte) (int, error) {
	for i := 0; i < len(p); i += c.n {
		if _, err := c.Conn.Write(p[i:min(i+c.n, len(p))]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// tlsPair is a Conn after its handshake as a server, and the client's side,
// which speaks over what wrap makes of its socket.
func tlsPair(t testing.TB, version uint16, wrap func(net.Conn) net.Conn) (*Conn, *tls.Conn) {
	t.Helper()
	ours, raw := tcpPair(t)
	cert := imaptest.NewCert(t)
	cfg := cert.Client.Clone()
	cfg.MaxVersion = version
	theirs := tls.Client(wrap(raw), cfg)
	shook := make(chan error, 1)
	go func() { shook <- theirs.HandshakeContext(t.Context()) }()
	must(t, ours.Server(t.Context(), cert.Server))
	must(t, <-shook)
	return ours, theirs
}

func asIs(c net.Conn) net.Conn { return c }

// collector is a Receiver that remembers.
type collector struct {
	got    []byte
	chunks int
	keep   func(b []byte) int // how many of the last bytes to keep back; nil: none
	next   func(all int) Next // all: bytes taken so far; nil: More
	wanted int                // Stop once so many are taken; 0: never
}

func (r *collector) Chunk(b []byte) (int, Next) {
	r.chunks++
	kept := 0
	if r.keep != nil {
		kept = r.keep(b)
	}
	r.got = append(r.got, b[:len(b)-kept]...)
	if r.wanted > 0 && len(r.got) >= r.wanted {
		return kept, Stop
	}
	if r.next != nil {
		return kept, r.next(len(r.got))
	}
	return kept, More
}

// text is n bytes that are all different from their neighbours.
func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// way is a connection's way of carrying bytes.
type way struct {
	name string
	pair func(t testing.TB, wrap func(net.Conn) net.Conn) (*Conn, net.Conn)
}

func ways() []way {
	overTLS := func(version uint16) func(testing.TB, func(net.Conn) net.Conn) (*Conn, net.Conn) {
		return func(t testing.TB, wrap func(net.Conn) net.Conn) (*Conn, net.Conn) {
			return tlsPair(t, version, wrap)
		}
	}
	return []way{
		{"plain", func(t testing.TB, wrap func(net.Conn) net.Conn) (*Conn, net.Conn) {
			c, raw := tcpPair(t)
			return c, wrap(raw)
		}},
		{"TLS 1.3", overTLS(tls.VersionTLS13)},
		{"TLS 1.2", overTLS(tls.VersionTLS12)},
	}
}

func eachWay(t *testing.T, f func(t *testing.T, w way)) {
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) { f(t, w) })
	}
}

// send writes in a goroutine of its own, and has the test fail when that fails.
func send(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Errorf("the sender: %v", err)
		}
	})
}

func write(w io.Writer, b []byte) error { _, err := w.Write(b); return err }

func TestPumpGivesAllThatArrivesHoweverItComes(t *testing.T) {
	for _, n := range []int{1, 2, 7, 1 << 20} {
		eachWay(t, func(t *testing.T, w way) {
			size := 3000
			if n > 1000 {
				size = 1 << 20
			}
			ours, theirs := w.pair(t, func(c net.Conn) net.Conn { return chopped{c, n} })
			want := text(size)
			send(t, func() error { return write(theirs, want) })
			r := &collector{wanted: size}
			must(t, ours.Pump(NewPool(), r))
			if !bytes.Equal(r.got, want) {
				t.Fatal("other bytes came out than went in")
			}
		})
	}
}

func TestPumpGivesKeptBytesAgainBeforeWhatFollows(t *testing.T) {
	for name, keep := range map[string]func([]byte) int{
		"as much as may be":  func(b []byte) int { return min(len(b), MaxHold) },
		"all but whole tens": func(b []byte) int { return len(b) % 10 },
		"an unfinished line": func(b []byte) int { return min(len(b)-1-bytes.LastIndexByte(b, '\n'), MaxHold) },
	} {
		eachWay(t, func(t *testing.T, w way) {
			ours, theirs := w.pair(t, func(c net.Conn) net.Conn { return chopped{c, 3} })
			want := text(2 * ChunkSize / 50)
			ours.Unread(nil)
			send(t, func() error { return errors.Join(write(theirs, want), theirs.Close()) })
			r := &collector{keep: keep}
			if err := ours.Pump(NewPool(), r); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if all := append(r.got, ours.Kept()...); !bytes.Equal(all, want) {
				t.Fatalf("%s: other bytes came out than went in: %d of %d", name, len(all), len(want))
			}
		})
	}
}

func TestPumpPanicsWhenItsReceiverKeepsTooMuch(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("it took more than MaxHold")
		}
	}()
	ours, _ := tcpPair(t)
	ours.Unread(text(MaxHold + 1))
	_ = ours.Pump(NewPool(), &collector{keep: func(b []byte) int { return len(b) }})
}

func TestPumpSeesTheCommandThatCameWithTheHandshakesEnd(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		ours, raw := tcpPair(t)
		cert := imaptest.NewCert(t)
		cfg := cert.Client.Clone()
		cfg.MaxVersion = version
		cork := &corked{Conn: raw, on: true}
		theirs := tls.Client(cork, cfg)
		sent := make(chan error, 1)
		go func() {
			if err := theirs.HandshakeContext(t.Context()); err != nil {
				sent <- err
				return
			}
			// Under 1.3 Finished is still in the cork.
			_, err := theirs.Write([]byte("a NOOP\r\n"))
			sent <- errors.Join(err, cork.uncork())
		}()
		must(t, ours.Server(t.Context(), cert.Server))
		must(t, <-sent)
		r := &collector{wanted: 8}
		must(t, ours.Pump(NewPool(), r))
		if string(r.got) != "a NOOP\r\n" {
			t.Fatalf("%q", r.got)
		}
	}
}

func TestPumpTellsTheEnd(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		ours, theirs := w.pair(t, asIs)
		must(t, write(theirs, []byte("last words")))
		must(t, theirs.Close()) // under TLS with close_notify
		r := &collector{}
		if err := ours.Pump(NewPool(), r); !errors.Is(err, io.EOF) || string(r.got) != "last words" {
			t.Fatalf("%q %v", r.got, err)
		}
	})
	t.Run("half-close", func(t *testing.T) {
		eachWay(t, func(t *testing.T, w way) {
			ours, theirs := w.pair(t, asIs)
			must(t, theirs.(interface{ CloseWrite() error }).CloseWrite())
			if err := ours.Pump(NewPool(), &collector{}); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			must(t, write(ours, []byte("still here")))
			must(t, ours.CloseWrite())
			if got, err := io.ReadAll(theirs); err != nil || string(got) != "still here" {
				t.Fatalf("%q %v", got, err)
			}
		})
	})
	t.Run("TLS without close_notify", func(t *testing.T) {
		ours, theirs := tlsPair(t, tls.VersionTLS13, asIs)
		must(t, write(theirs, []byte("last words")))
		must(t, theirs.NetConn().Close())
		r := &collector{}
		if err := ours.Pump(NewPool(), r); !errors.Is(err, io.EOF) || string(r.got) != "last words" {
			t.Fatalf("%q %v", r.got, err)
		}
	})
	t.Run("TLS in the middle of a record", func(t *testing.T) {
		var half *halved
		ours, theirs := tlsPair(t, tls.VersionTLS13, func(c net.Conn) net.Conn { half = &halved{Conn: c}; return half })
		half.on = true
		must(t, write(theirs, []byte("last words")))
		must(t, theirs.NetConn().Close())
		r := &collector{}
		if err := ours.Pump(NewPool(), r); !errors.Is(err, io.ErrUnexpectedEOF) || len(r.got) > 0 {
			t.Fatalf("%q %v", r.got, err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		ours, theirs := tcpPair(t)
		must(t, theirs.SetLinger(0))
		must(t, theirs.Close())
		if err := ours.Pump(NewPool(), &collector{}); err == nil || errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	})
}

// halved writes half of what it is given, once on.
type halved struct {
	net.Conn
	on bool
}

func (h *halved) Write(p []byte) (int, error) {
	if !h.on {
		return h.Conn.Write(p)
	}
	_, err := h.Conn.Write(p[:len(p)/2])
	return len(p), err
}

func TestADeadlineWakesAPumpThatWaitsAndLeavesItInOrder(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		ours, theirs := w.pair(t, asIs)
		pool := NewPool()
		woken := make(chan error, 1)
		r := &collector{}
		go func() { woken <- ours.Pump(pool, r) }()
		must(t, ours.SetReadDeadline(time.Unix(1, 0)))
		if err := <-woken; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		must(t, ours.SetReadDeadline(time.Now().Add(limit)))
		must(t, write(theirs, []byte("a NOOP\r\n")))
		r.wanted = 8
		must(t, ours.Pump(pool, r))
		if string(r.got) != "a NOOP\r\n" {
			t.Fatalf("%q", r.got)
		}
	})
}

func TestADeadlineInTheMiddleOfARecordLosesNothing(t *testing.T) {
	ours, theirs := tlsPair(t, tls.VersionTLS13, func(c net.Conn) net.Conn { return &tee{Conn: c} })
	var wire bytes.Buffer
	record(t, theirs, &wire, "a NOOP\r\n")
	pool, r := NewPool(), &collector{wanted: 8}
	for _, b := range wire.Bytes() {
		if _, err := theirs.NetConn().(*tee).Conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
		// What has come is read, then the deadline ends the wait for more.
		must(t, ours.SetReadDeadline(time.Now().Add(time.Millisecond)))
		if err := ours.Pump(pool, r); err == nil {
			break
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	must(t, ours.SetReadDeadline(time.Now().Add(limit)))
	if len(r.got) == 0 {
		must(t, ours.Pump(pool, r))
	}
	if string(r.got) != "a NOOP\r\n" {
		t.Fatalf("%q", r.got)
	}
}

func TestStopAndResumeKeepEveryByte(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		cork := new(corked)
		ours, theirs := w.pair(t, func(c net.Conn) net.Conn { cork.Conn = c; return cork })
		cork.on = true
		var want []byte
		for i := range 200 { // many small records in one read
			line := []byte(strings.Repeat("x", i) + "\r\n")
			want = append(want, line...)
			must(t, write(theirs, line))
		}
		must(t, cork.uncork())
		pool := NewPool()
		r := &collector{next: func(int) Next { return Stop }}
		var got []byte
		for i := 0; len(got)+len(r.got) < len(want); i++ {
			if i%3 == 2 { // what was read ahead is there for an ordinary Read as well
				var b [10]byte
				n, err := ours.Read(b[:])
				must(t, err)
				got = append(append(got, r.got...), b[:n]...)
				r.got = nil
				continue
			}
			must(t, ours.Pump(pool, r))
		}
		if got = append(got, r.got...); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came out, %d went in", len(got), len(want))
		}
	})
}

func TestUnreadBytesComeFirst(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		ours, theirs := w.pair(t, asIs)
		must(t, write(theirs, []byte("third")))
		ours.Unread([]byte("second "))
		ours.Unread([]byte("first "))
		var b [4]byte
		n, err := ours.Read(b[:])
		must(t, err)
		r := &collector{wanted: len("first second third") - n}
		must(t, ours.Pump(NewPool(), r))
		if got := string(b[:n]) + string(r.got); got != "first second third" {
			t.Fatalf("%q", got)
		}
	})
	t.Run("more than a chunk, kept and stopped", func(t *testing.T) {
		ours, theirs := tcpPair(t)
		want := text(3*ChunkSize + 17)
		ours.Unread(want[:3*ChunkSize])
		send(t, func() error { return write(theirs, want[3*ChunkSize:]) })
		r := &collector{keep: func(b []byte) int { return min(len(b)-1, 100) }, next: func(int) Next { return Stop }}
		for len(r.got)+len(ours.Kept()) < len(want) {
			must(t, ours.Pump(NewPool(), r))
		}
		if !bytes.Equal(append(r.got, ours.Kept()...), want) {
			t.Fatal("other bytes came out than went in")
		}
	})
}

func TestCloseEndsAPumpThatWaits(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		ours, theirs := w.pair(t, asIs)
		must(t, write(theirs, []byte("x")))
		ended, first := make(chan error, 1), make(chan struct{})
		r := &collector{next: func(int) Next { close(first); return More }}
		go func() { ended <- ours.Pump(NewPool(), r) }()
		<-first
		must(t, ours.Abort())
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	})
}

func TestAckIsHarmless(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		ours, theirs := w.pair(t, asIs)
		must(t, write(theirs, []byte("hello")))
		r := &collector{wanted: 5, next: func(int) Next { return Ack }}
		must(t, ours.Pump(NewPool(), r))
		ours.QuickAck()
	})
}

// record writes s as the next TLS record, into w instead of the socket.
func record(t *testing.T, c *tls.Conn, w io.Writer, s string) {
	t.Helper()
	x := c.NetConn().(*tee)
	x.into = w
	must(t, write(c, []byte(s)))
	x.into = nil
}

// tee writes elsewhere when told so.
type tee struct {
	net.Conn
	into io.Writer
}

func (x *tee) Write(p []byte) (int, error) {
	if x.into != nil {
		return x.into.Write(p)
	}
	return x.Conn.Write(p)
}

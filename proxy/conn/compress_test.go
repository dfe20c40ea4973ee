package conn

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"net"
	"testing"
	"unsafe"

	"imapproxy/internal/imaptest"
)

// compressing is the peer's side of a compressed connection.
type compressing struct {
	net.Conn
	w *flate.Writer
	r io.Reader
}

func newCompressing(t testing.TB, c net.Conn) *compressing {
	w, err := flate.NewWriter(c, 6)
	must(t, err)
	return &compressing{Conn: c, w: w, r: flate.NewReader(c)}
}

func (c *compressing) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	return n, errors.Join(err, c.w.Flush())
}

func (c *compressing) Read(p []byte) (int, error) { return c.r.Read(p) }

func TestCompressedBothWays(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		ours, raw := w.pair(t, asIs)
		pool := NewPool()
		ours.Inflate(pool, 1000)
		ours.Deflate()
		theirs := newCompressing(t, raw)
		want := bytes.Repeat([]byte("* 1 FETCH (FLAGS (\\Seen) UID 4711)\r\n"), 8000)
		send(t, func() error { return write(theirs, want) })
		r := &collector{wanted: len(want)}
		must(t, ours.Pump(pool, r))
		if !bytes.Equal(r.got, want) {
			t.Fatal("it isn't what was sent")
		}
		sent := make(chan error, 1)
		go func() { sent <- write(ours, want) }()
		got := make([]byte, len(want))
		_, err := io.ReadFull(theirs, got)
		must(t, errors.Join(err, <-sent))
		if !bytes.Equal(got, want) {
			t.Fatal("the peer has read something else")
		}
		if ours.Held() > 32<<10+1000 {
			t.Errorf("%d octets are held", ours.Held())
		}
		ours.Rest()
		if ours.Held() > 32<<10 {
			t.Errorf("at rest %d octets are held", ours.Held())
		}
		if sum := ours.Compressed(); sum.InPlain != int64(len(want)) || sum.OutPlain != int64(len(want)) || sum.In >= sum.InPlain || sum.Out >= sum.OutPlain {
			t.Errorf("%+v", sum)
		}
		if sum := ours.Compressed(); sum != (Compressed{}) {
			t.Errorf("counted twice: %+v", sum)
		}
	})
}

// TestAStoppedPumpLosesNothingOfACompressedStream stops after each chunk, and reads on in each of the ways there are.
func TestAStoppedPumpLosesNothingOfACompressedStream(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		ours, raw := w.pair(t, asIs)
		ours.Inflate(NewPool(), 0)
		theirs := newCompressing(t, raw)
		want := append(text(300_000), bytes.Repeat([]byte("a"), 1_000_000)...)
		send(t, func() error { return write(theirs, want) })
		pool := NewPool()
		var got []byte
		for turn := 0; len(got) < len(want); turn++ {
			if turn%2 == 0 {
				r := &collector{wanted: 1}
				must(t, ours.Pump(pool, r))
				got = append(got, r.got...)
				continue
			}
			b := make([]byte, 777)
			n, err := ours.Read(b)
			must(t, err)
			got = append(got, b[:n]...)
		}
		if !bytes.Equal(got, want) {
			t.Error("it isn't what was sent")
		}
	})
}

func TestArrivedSeesWhatIsInflatedOnly(t *testing.T) {
	ours, raw := tcpPair(t)
	ours.Inflate(NewPool(), 0)
	theirs := newCompressing(t, raw)
	must(t, write(theirs, []byte("a1 NOOP\r\na2 NOOP\r\n")))
	b := make([]byte, 9)
	_, err := ours.Read(b)
	must(t, err)
	if !ours.Arrived() || !errors.Is(ours.Pending(), ErrUnread) {
		t.Error("the second command isn't seen")
	}
	_, err = ours.Read(b)
	must(t, err)
	if string(b) != "a2 NOOP\r\n" || ours.Arrived() || ours.Pending() != nil {
		t.Errorf("%q was read; more arrived: %v", b, ours.Arrived())
	}
}

// TestTheEndOfABlockIsNotAnArrival has a peer that sends a command's text and the end of its block apart, as Go's compressor does.
func TestTheEndOfABlockIsNotAnArrival(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		for name, within := range map[string]bool{"between two reads": false, "within a chunk": true} {
			t.Run(name, func(t *testing.T) {
				ours, raw := w.pair(t, asIs)
				pool := NewPool()
				ours.Inflate(pool, 0)
				var sent bytes.Buffer
				z, err := flate.NewWriter(&sent, 6)
				must(t, err)
				must(t, write(z, []byte("a1 NOOP\r\n")))
				must(t, z.Flush())
				text := sent.Bytes()
				next := func(chunk string) bool {
					if chunk != "a1 NOOP\r\n" {
						t.Errorf("%q was read", chunk)
					}
					must(t, write(raw, text[len(text)-4:]))
					imaptest.Eventually(t, "the end of the block", ours.HasUnread)
					return ours.Arrived()
				}
				must(t, write(raw, text[:len(text)-4]))
				arrived := false
				if within {
					must(t, ours.Pump(pool, onceOnly(func(b []byte) { arrived = next(string(b)) })))
				} else {
					b := make([]byte, 100)
					n, err := ours.Read(b)
					must(t, err)
					arrived = next(string(b[:n]))
				}
				if arrived {
					t.Error("the end of the block counts")
				}
				sent.Reset()
				must(t, write(z, []byte("a2 NOOP\r\n")))
				must(t, z.Flush())
				must(t, write(raw, sent.Bytes()))
				imaptest.Eventually(t, "the second command", ours.Arrived)
				r := &collector{wanted: 9}
				must(t, ours.Pump(pool, r))
				if string(r.got) != "a2 NOOP\r\n" {
					t.Errorf("%q was read", r.got)
				}
			})
		}
	})
}

// onceOnly is a Receiver of one chunk.
type onceOnly func(b []byte)

func (f onceOnly) Chunk(b []byte) (int, Next) {
	f(b)
	return 0, Stop
}

func TestABrokenCompressedStreamIsAnErrorOfItsOwn(t *testing.T) {
	ours, raw := tcpPair(t)
	ours.Inflate(NewPool(), 0)
	must(t, write(raw, []byte("a1 NOOP\r\n")))
	if err := ours.Pump(NewPool(), &collector{}); !errors.Is(err, ErrInflate) {
		t.Errorf("%v", err)
	}
	if _, err := ours.Read(make([]byte, 10)); !errors.Is(err, ErrInflate) {
		t.Errorf("%v", err)
	}
}

func TestACompressedConnectionIsNotSpliced(t *testing.T) {
	src, _ := tcpPair(t)
	dst, _ := tcpPair(t)
	dst.Inflate(NewPool(), 0)
	dst.Deflate()
	if CanSplice(dst, src) {
		t.Error("to a client that expects compressed data")
	}
	src.Inflate(NewPool(), 0)
	other, _ := tcpPair(t)
	if CanSplice(other, src) {
		t.Error("from a client that sends compressed data")
	}
}

// TestAConnectionWithoutCompressionIsAsSmallAsBefore has the size class of 128 bytes.
func TestAConnectionWithoutCompressionIsAsSmallAsBefore(t *testing.T) {
	if size := unsafe.Sizeof(Conn{}); size > 128 {
		t.Errorf("a Conn has %d bytes", size)
	}
	if size := unsafe.Sizeof(socket{}); size > 112 {
		t.Errorf("a socket has %d bytes", size)
	}
}

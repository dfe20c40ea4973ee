package conn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"imapproxy/internal/imaptest"
)

func TestSpliceMovesWhatWasReadEarlyThenTheSockets(t *testing.T) {
	for _, early := range []int{0, 10, 1000, 5000} {
		src, from := tcpPair(t)
		dst, to := tcpPair(t)
		want := text(200 << 10)
		src.Unread(want[:early])
		send(t, func() error { return write(from, want[early:]) })
		n := int64(len(want) - 100)
		if early == 5000 {
			n = 3000 // less than what was read early
		}
		moved := make(chan error, 1)
		go func() {
			got, err := Splice(dst, src, n)
			if err == nil && got != n {
				err = errors.New("a short splice without an error")
			}
			moved <- err
		}()
		got := make([]byte, n)
		_, err := io.ReadFull(to, got)
		must(t, err)
		must(t, <-moved)
		if !bytes.Equal(got, want[:n]) {
			t.Fatal("other bytes came out than went in")
		}
		r := &collector{wanted: len(want) - int(n)}
		must(t, src.Pump(NewPool(), r))
		if !bytes.Equal(r.got, want[n:]) {
			t.Fatal("what follows the splice is something else")
		}
	}
}

func TestSpliceSaysWhenTheSourceEnds(t *testing.T) {
	src, from := tcpPair(t)
	dst, _ := tcpPair(t)
	src.Unread([]byte("abc"))
	must(t, write(from, []byte("def")))
	must(t, from.Close())
	if n, err := Splice(dst, src, 100); n != 6 || !errors.Is(err, io.EOF) {
		t.Fatal(n, err)
	}
}

func TestSpliceStopsAtADeadline(t *testing.T) {
	src, _ := tcpPair(t)
	dst, _ := tcpPair(t)
	ended := make(chan error, 1)
	go func() { _, err := Splice(dst, src, 100); ended <- err }()
	must(t, src.SetReadDeadline(time.Unix(1, 0)))
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestOnlyPlainMeetsPlainForASplice(t *testing.T) {
	plain, _ := tcpPair(t)
	secure, _ := tlsPair(t, tls.VersionTLS13, asIs)
	if !CanSplice(plain, plain) || CanSplice(plain, secure) || CanSplice(secure, plain) {
		t.Fatal("CanSplice")
	}
	if plain.Secure() || plain.TLS() != nil || !secure.Secure() || secure.TLS().Version != tls.VersionTLS13 {
		t.Fatal("Secure or TLS")
	}
}

func TestTrimGivesBuffersBackAndReadingGoesOn(t *testing.T) {
	ours, theirs := tlsPair(t, tls.VersionTLS13, asIs)
	raw, hand, input := field[bytes.Buffer](ours.tls, "rawInput"), field[bytes.Buffer](ours.tls, "hand"), field[bytes.Reader](ours.tls, "input")
	if raw == nil || hand == nil || input == nil {
		t.Fatal("this Go release has other buffers")
	}
	pool := NewPool()
	must(t, pool.Unfit())
	for _, size := range []int{10, 20000, 10, 100000} { // records of up to 16 KB
		ours.Trim(pool)
		want := text(size)
		done := make(chan error, 1)
		go func() { done <- write(theirs, want) }()
		r := &collector{wanted: size}
		must(t, ours.Pump(pool, r))
		must(t, <-done)
		if !bytes.Equal(r.got, want) {
			t.Fatal("other bytes came out than went in")
		}
	}
	ours.Trim(pool)
	if raw.Cap() != 0 || hand.Cap() != 0 || input.Size() != 0 {
		t.Errorf("%d, %d and %d bytes are kept", raw.Cap(), hand.Cap(), input.Size())
	}
	must(t, write(ours, []byte("answer")))
	var b [6]byte
	_, err := io.ReadFull(theirs, b[:])
	must(t, err)
}

func TestTrimLeavesBytesThatAreStillToBeRead(t *testing.T) {
	pool := NewPool()
	cork := new(corked)
	ours, theirs := tlsPair(t, tls.VersionTLS13, func(c net.Conn) net.Conn { cork.Conn = c; return cork })
	cork.on = true
	must(t, write(theirs, []byte("one ")))
	must(t, write(theirs, []byte("two ")))
	must(t, write(theirs, []byte("three")))
	must(t, cork.uncork())
	got := make([]byte, 13)
	for n := 0; n < len(got); {
		m, err := ours.Read(got[n : n+1]) // leaves decrypted and undecrypted bytes behind
		must(t, err)
		n += m
		ours.Trim(pool)
	}
	if string(got) != "one two three" {
		t.Fatalf("%q", got)
	}
	plain, _ := tcpPair(t)
	plain.Trim(pool)
}

func TestKeepAliveIsSetOnTheSocket(t *testing.T) {
	c, _ := tcpPair(t)
	p := Probing{Idle: 90 * time.Second, Interval: 20 * time.Second, Within: 3 * time.Minute}
	for range 20 { // the times are drawn
		must(t, c.KeepAlive(p))
		var got [3]int
		must(t, c.raw.Control(func(fd uintptr) {
			option := func(name string, level, opt int) int {
				v, err := unix.GetsockoptInt(int(fd), level, opt)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				return v
			}
			if option("on", unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 1 || option("nodelay", unix.IPPROTO_TCP, unix.TCP_NODELAY) != 1 || option("unacked", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) != 180000 {
				t.Error("keepalive is off, Nagle's algorithm on, or what isn't acknowledged has another time")
			}
			got = [3]int{option("idle", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE), option("interval", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL), option("count", unix.IPPROTO_TCP, unix.TCP_KEEPCNT)}
		}))
		idle, interval, fails := got[0], got[1], got[0]+got[1]*got[2]
		if idle < 90 || idle > 135 || interval < 20 || interval > 40 || fails < 180 || fails >= 180+interval {
			t.Errorf("the first probe after %d s, the others every %d s, fails after %d", idle, interval, fails)
		}
	}
}

// Connections that were last used in one moment aren't all probed in one.
func TestConnectionsAreProbedAtDifferentTimes(t *testing.T) {
	p := Probing{Idle: 7 * time.Second, Interval: time.Second, Within: 45 * time.Second}
	const connections = 9000
	first := make(map[time.Duration]int)
	for range connections {
		c := p.config()
		first[c.Idle]++
		if c.Count < 15 {
			t.Fatalf("%+v: few probes, and each may be dropped", c)
		}
	}
	for idle, n := range first {
		if n > connections/2 {
			t.Errorf("%d of %d connections are probed first after %v", n, connections, idle)
		}
	}
}

func TestAHandshakeTakesBytesThatWereReadTooEarly(t *testing.T) {
	ours, raw := tcpPair(t)
	cert := imaptest.NewCert(t)
	theirs := tls.Client(raw, cert.Client)
	shook := make(chan error, 1)
	go func() { shook <- theirs.HandshakeContext(t.Context()) }()
	var b [100]byte
	n, err := ours.Read(b[:])
	must(t, err)
	ours.Unread(b[:n]) // as who read a PROXY header does
	must(t, ours.Server(t.Context(), cert.Server))
	must(t, <-shook)
	must(t, write(theirs, []byte("x")))
	if n, err := ours.Read(b[:]); err != nil || string(b[:n]) != "x" {
		t.Fatalf("%q %v", b[:n], err)
	}
	if err := ours.Server(t.Context(), cert.Server); err == nil {
		t.Fatal("TLS within TLS")
	}
}

func TestAHandshakeThatFailsSaysSo(t *testing.T) {
	ours, raw := tcpPair(t)
	must(t, write(raw, []byte("a LOGIN alice pw\r\n")))
	if err := ours.Server(t.Context(), imaptest.NewCert(t).Server); err == nil {
		t.Fatal("a handshake with IMAP")
	}
	if ours.Secure() {
		t.Fatal("it takes itself for secure")
	}
}

func TestClientHandshakeVerifies(t *testing.T) {
	ours, raw := tcpPair(t)
	cert, other := imaptest.NewCert(t), imaptest.NewCert(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Server(raw, cert.Server).HandshakeContext(t.Context())
	}()
	var unknown *tls.CertificateVerificationError
	if err := ours.Client(t.Context(), other.Client); !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	<-done
}

func TestPumpAllocatesNothingPerChunk(t *testing.T) {
	for _, w := range ways()[:2] {
		t.Run(w.name, func(t *testing.T) {
			ours, theirs := w.pair(t, asIs)
			pool := NewPool()
			r := stopper{}
			line := []byte("a NOOP\r\n")
			allocs := testing.AllocsPerRun(200, func() {
				must(t, write(theirs, line))
				must(t, ours.Pump(pool, r))
			})
			// The pump's own state and its closure, once a Pump; a relay has one.
			if allocs > 8 {
				t.Fatalf("%v allocations a chunk", allocs)
			}
		})
	}
}

// stopper takes what comes and stops.
type stopper struct{}

func (stopper) Chunk([]byte) (int, Next) { return 0, Stop }

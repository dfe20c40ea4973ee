package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
)

// answering is a backend that answers every read with the same bytes, and
// allocates nothing for it.
func answering(answer []byte) imaptest.Handler {
	return func(c *imaptest.BackendConn) error {
		if err := letIn(c); err != nil {
			return err
		}
		if err := c.Conn.SetDeadline(time.Time{}); err != nil {
			return err
		}
		buf := make([]byte, 4096)
		for {
			if _, err := c.Conn.Read(buf); err != nil {
				return err
			}
			if _, err := c.Conn.Write(answer); err != nil {
				return err
			}
		}
	}
}

// roundTrips is a session over which commands go as often as wanted.
func roundTrips(t testing.TB, listener string, command, answer []byte, change ...func(*Options)) (once func()) {
	t.Helper()
	o := labOptions{quiet: true, handlers: []imaptest.Handler{answering(answer)}}
	if len(change) > 0 {
		o.change = change[0]
	}
	l := newLab(t, o)
	var c net.Conn
	var err error
	if listener == implicit {
		c, err = tls.Dial("tcp", l.addr(listener), l.cert.Client)
	} else {
		c, err = net.Dial("tcp", l.addr(listener))
	}
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = fmt.Fprintf(c, "login LOGIN alice %s\r\n", password)
	must(t, err)
	var greeted []byte
	for !bytes.Contains(greeted, []byte("] Logged in\r\n")) {
		b := make([]byte, 512)
		n, err := c.Read(b)
		must(t, err)
		greeted = append(greeted, b[:n]...)
	}
	buf := make([]byte, len(answer))
	return func() {
		if _, err := c.Write(command); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
}

// fetched is the answer to a FETCH of one mail of n bytes.
func fetched(n int) []byte {
	return append(append(fmt.Appendf(nil, "* 1 FETCH (UID 1 BODY[] {%d}\r\n", n), bytes.Repeat([]byte("0123456789abcde\n"), n/16)...), ")\r\na OK done\r\n"...)
}

// TestARelayedCommandAllocatesNothing: in steady state, all three parties
// counted. Under TLS crypto/tls makes an object of 24 bytes each time that it asks
// its socket, which can't be prevented: once in the client, and once for each record
// in the proxy.
func TestARelayedCommandAllocatesNothing(t *testing.T) {
	for _, listener := range []string{plain, implicit} {
		for name, c := range map[string]struct{ command, answer []byte }{
			"NOOP":            {[]byte("a NOOP\r\n"), []byte("a OK done\r\n")},
			"FETCH of 4 KB":   {[]byte("a UID FETCH 1 BODY[]\r\n"), fetched(4 << 10)},
			"several at once": {[]byte("a NOOP\r\na NOOP\r\na NOOP\r\n"), []byte("a OK done\r\n* 3 EXISTS\r\na OK done\r\na OK done\r\n")},
			"SELECT":          {[]byte("a SELECT INBOX\r\n"), []byte("* 3 EXISTS\r\n* OK [UIDVALIDITY 1]\r\na OK [READ-WRITE] done\r\n")},
		} {
			t.Run(listener+" "+name, func(t *testing.T) {
				once := roundTrips(t, listener, c.command, c.answer)
				if n, allowed := allocations(once), map[string]float64{plain: 0, implicit: 2}[listener]; n > allowed {
					t.Fatalf("%v allocations a command", n)
				}
			})
		}
	}
}

// allocations returns how many allocations once makes in the mean, at least. The race detector makes pools
// forget what they hold, so with it allocations tests only that once works.
func allocations(once func()) float64 {
	if raceEnabled {
		for range 20 {
			once()
		}
		return 0
	}
	for range 200 {
		once()
	}
	return testing.AllocsPerRun(2000, once)
}

// TestACommandThatIsFollowedAllocatesNothing: where sessions are parked, what comes in pieces is looked
// at more closely. Nothing is kept of it.
func TestACommandThatIsFollowedAllocatesNothing(t *testing.T) {
	parks := func(o *Options) {
		o.Park = session.ParkOptions{Hub: park.NewHub(park.HubOptions{}), Pool: upstream.NewPool(upstream.PoolOptions{}), Linger: time.Hour}
	}
	for name, c := range map[string]struct{ command, answer []byte }{
		"a search": {[]byte("a UID SEARCH CHARSET UTF-8 TEXT {3+}\r\nabc MODSEQ 3\r\n"), []byte("* SEARCH\r\na OK done\r\n")},
		"a long line": {append(append([]byte("a UID FETCH 1"), bytes.Repeat([]byte(",1"), 1000)...), " (FLAGS)\r\n"...),
			[]byte("a OK done\r\n")},
		"RENAME":           {[]byte("a RENAME {3+}\r\nold {3+}\r\nnew\r\n"), []byte("a OK done\r\n")},
		"SELECT with BAD":  {[]byte("a SELECT\r\n"), []byte("a BAD what\r\n")},
		"a message":        {[]byte("a UID FETCH 1 BODY[]\r\n"), fetched(4 << 10)},
		"a large message":  {[]byte("a UID FETCH 1 BODY[]\r\n"), fetched(60 << 10)},
		"FETCH by number ": {[]byte("a FETCH 1 (FLAGS MODSEQ)\r\n"), []byte("a OK done\r\n")},
	} {
		t.Run(name, func(t *testing.T) {
			once := roundTrips(t, plain, c.command, c.answer, parks)
			if n := allocations(once); n > 0 {
				t.Fatalf("%v allocations a command", n)
			}
		})
	}
}

func benchmarkRelay(b *testing.B, command, answer []byte) {
	for _, listener := range []string{plain, implicit} {
		b.Run(map[string]string{plain: "plain", implicit: "TLS"}[listener], func(b *testing.B) {
			once := roundTrips(b, listener, command, answer)
			once()
			b.SetBytes(int64(len(answer)))
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}

// BenchmarkRelayNOOP is one command's round trip, client and backend included.
func BenchmarkRelayNOOP(b *testing.B) {
	benchmarkRelay(b, []byte("a NOOP\r\n"), []byte("a OK done\r\n"))
}

// BenchmarkRelayFetch is a mail's way through the proxy, by its size.
func BenchmarkRelayFetch(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			benchmarkRelay(b, []byte("a UID FETCH 1 BODY[]\r\n"), fetched(size))
		})
	}
}

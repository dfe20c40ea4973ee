package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// pendingPair is a Conn and its peer, in the clear or under TLS, with a round
// trip behind them, so that the handshake's tickets have been read.
func pendingPair(t *testing.T, secure bool) (*Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(out.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Abort(); _ = in.Close() })
	if !secure {
		return c, in
	}
	cert := imaptest.NewCert(t)
	peer := tls.Server(in, cert.Server)
	failed := make(chan error, 1)
	go func() { // ends with the handshake
		if err := peer.Handshake(); err != nil {
			failed <- err
			return
		}
		_, err := peer.Write([]byte("hello"))
		failed <- err
	}()
	if err := c.Client(context.Background(), cert.Client); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return c, peer
}

// await polls Pending, which never waits, until it says something: the bytes are
// on their way.
func await(t *testing.T, c *Conn) error {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		if err := c.Pending(); err != nil {
			return err
		}
		select {
		case <-deadline:
			t.Fatal("Pending has nothing to say after 10 s")
		default:
		}
	}
}

func TestPendingTellsAQuietConnectionFromOneThatIsNot(t *testing.T) {
	for name, secure := range map[string]bool{"clear": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			t.Run("quiet, and it still works", func(t *testing.T) {
				c, peer := pendingPair(t, secure)
				for range 3 {
					if err := c.Pending(); err != nil {
						t.Fatalf("a quiet connection: %v", err)
					}
				}
				go func() { _, _ = peer.Write([]byte("x")) }()
				b := make([]byte, 1)
				if _, err := c.Read(b); err != nil || b[0] != 'x' {
					t.Fatalf("after the look: %q, %v", b, err)
				}
			})
			t.Run("unread in the socket", func(t *testing.T) {
				c, peer := pendingPair(t, secure)
				_, _ = peer.Write([]byte("* BYE\r\n"))
				if err := await(t, c); !errors.Is(err, ErrUnread) {
					t.Fatalf("got %v", err)
				}
			})
			t.Run("read ahead", func(t *testing.T) {
				c, peer := pendingPair(t, secure)
				go func() { _, _ = peer.Write([]byte("two")) }()
				b := make([]byte, 1)
				if _, err := c.Read(b); err != nil {
					t.Fatal(err)
				}
				if err := c.Pending(); !errors.Is(err, ErrUnread) {
					t.Fatalf("got %v", err)
				}
			})
			t.Run("put back", func(t *testing.T) {
				c, _ := pendingPair(t, secure)
				c.Unread([]byte("x"))
				if err := c.Pending(); !errors.Is(err, ErrUnread) {
					t.Fatalf("got %v", err)
				}
			})
			t.Run("ended by the peer", func(t *testing.T) {
				c, peer := pendingPair(t, secure)
				_ = peer.Close()
				// Under TLS the farewell itself may be what lies there.
				if err := await(t, c); !errors.Is(err, io.EOF) && !(secure && errors.Is(err, ErrUnread)) {
					t.Fatalf("got %v", err)
				}
			})
			t.Run("closed by us", func(t *testing.T) {
				c, _ := pendingPair(t, secure)
				_ = c.Abort()
				if err := c.Pending(); err == nil {
					t.Fatal("a closed connection passes for a quiet one")
				}
			})
		})
	}
}

// Whatever lies unread before the end, Ended says so, and takes nothing of it.
func TestEndedSeesTheEndBehindWhatIsUnread(t *testing.T) {
	for _, secure := range []bool{false, true} {
		c, peer := pendingPair(t, secure)
		if c.Ended() {
			t.Error("a quiet connection has ended")
		}
		if !secure {
			if _, err := peer.Write([]byte("bye")); err != nil {
				t.Fatal(err)
			}
		}
		if c.Ended() {
			t.Error("it has ended since something came")
		}
		if err := peer.Close(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(imaptest.DefaultTimeout); !c.Ended(); {
			if time.Now().After(deadline) {
				t.Fatal("the end isn't seen")
			}
		}
		if b, err := io.ReadAll(c); !secure && (err != nil || string(b) != "bye") {
			t.Errorf("%q, %v", b, err)
		}
		_ = c.Abort()
		if c.Ended() {
			t.Error("nobody can ask of a connection that is closed")
		}
	}
}

// Whatever was taken from the socket and not read is held, wherever it lies: a Poller would wait although there is something to read.
func TestHoldingSaysWhatThePollerCannotSee(t *testing.T) {
	pool := NewPool()
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			c, peer, seal := arriving(t, secure)
			if c.Holding(pool) {
				t.Error("nothing has come")
			}
			c.Unread([]byte("x"))
			if !c.Holding(pool) {
				t.Error("what was put back isn't held")
			}
			reads(t, c, "x")
			sends(t, peer, seal("a NOOP\r\n"))
			r := pumped(t, c, len("a NOOP\r\n"))
			if r.got != "a NOOP\r\n" || c.Holding(pool) {
				t.Errorf("%q was read, and more is held: %v", r.got, c.Holding(pool))
			}
		})
	}
	t.Run("a part of a record", func(t *testing.T) {
		c, peer, seal := arriving(t, true)
		first, second := seal("a NOOP\r\n"), seal("b NOOP\r\n")
		sends(t, peer, append(first, second[:9]...))
		pumped(t, c, len("a NOOP\r\n"))
		if !c.Holding(pool) {
			t.Error("the part isn't held")
		}
		sends(t, peer, second[9:])
		reads(t, c, "b NOOP\r\n")
		if c.Holding(pool) {
			t.Error("all was read")
		}
	})
	t.Run("a record behind", func(t *testing.T) {
		c, peer, seal := arriving(t, true)
		sends(t, peer, append(seal("a NOOP\r\n"), seal("b NOOP\r\n")...))
		pumped(t, c, len("a NOOP\r\n"))
		if !c.Holding(pool) {
			t.Error("the second record isn't held")
		}
		reads(t, c, "b NOOP\r\n")
		if c.Holding(pool) {
			t.Error("all was read")
		}
	})
	t.Run("decrypted", func(t *testing.T) {
		c, peer, seal := arriving(t, true)
		sends(t, peer, seal("a NOOP\r\nb"))
		reads(t, c, "a NOOP\r\n")
		if !c.Holding(pool) {
			t.Error("the rest of the record isn't held")
		}
		reads(t, c, "b")
	})
	t.Run("compressed", func(t *testing.T) {
		c, raw := tcpPair(t)
		c.Inflate(NewPool(), 0)
		must(t, write(newCompressing(t, raw), []byte("a NOOP\r\nb NOOP\r\n")))
		reads(t, c, "a NOOP\r\n")
		if !c.Holding(pool) {
			t.Error("the second command isn't held")
		}
		reads(t, c, "b NOOP\r\n")
		if c.Holding(pool) {
			t.Error("all was read")
		}
	})
}

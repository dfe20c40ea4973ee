package conn

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// arriving is a Conn as a listener has it, in the clear or under TLS, and the socket of its
// peer. seal makes a record of what the peer would write; in the clear it is that.
func arriving(t *testing.T, secure bool) (c *Conn, peer net.Conn, seal func(string) []byte) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if peer, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if c, err = New(in.(*net.TCPConn)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Abort(); _ = peer.Close() })
	if !secure {
		return c, peer, func(text string) []byte { return []byte(text) }
	}
	cert := imaptest.NewCert(t)
	held := &holding{Conn: peer}
	client := tls.Client(held, cert.Client)
	failed := make(chan error, 1)
	go func() { failed <- client.Handshake() }() // ends with it
	if err := c.Server(t.Context(), cert.Server); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	held.on = true
	return c, peer, func(text string) []byte {
		held.Reset()
		if _, err := client.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(held.Bytes())
	}
}

// holding keeps what is written back, once it is on.
type holding struct {
	net.Conn
	bytes.Buffer
	on bool
}

func (h *holding) Read(p []byte) (int, error) { return h.Conn.Read(p) }

func (h *holding) Write(p []byte) (int, error) {
	if h.on {
		return h.Buffer.Write(p)
	}
	return h.Conn.Write(p)
}

// arrives waits for what is on its way.
func arrives(t *testing.T, c *Conn) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !c.Arrived(); {
		if time.Now().After(deadline) {
			t.Fatal("nothing has arrived after 10 s")
		}
	}
}

// chunks is a receiver that says of each chunk whether more had come behind it, and stops
// at the last of its expected octets.
type chunks struct {
	t    *testing.T
	c    *Conn
	want int
	got  string
	more []bool
}

func (r *chunks) Chunk(b []byte) (kept int, next Next) {
	r.got += string(b)
	r.more = append(r.more, r.c.Arrived())
	if len(r.got) >= r.want {
		return 0, Stop
	}
	return 0, More
}

func TestArrivedSaysWhetherMoreHasCome(t *testing.T) {
	for name, secure := range map[string]bool{"clear": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Run("nothing", func(t *testing.T) {
				c, _, _ := arriving(t, secure)
				if c.Arrived() {
					t.Error("of a connection on which nothing was written")
				}
			})
			t.Run("in the socket, which it leaves as it is", func(t *testing.T) {
				c, peer, seal := arriving(t, secure)
				sends(t, peer, seal("one"))
				arrives(t, c)
				arrives(t, c)
				b := make([]byte, 3)
				if _, err := io.ReadFull(c, b); err != nil || string(b) != "one" {
					t.Fatalf("%q, %v", b, err)
				}
				if c.Arrived() {
					t.Error("all was read")
				}
			})
			t.Run("read in part", func(t *testing.T) {
				c, peer, seal := arriving(t, secure)
				sends(t, peer, seal("two"))
				b := make([]byte, 1)
				if _, err := io.ReadFull(c, b); err != nil {
					t.Fatal(err)
				}
				if !c.Arrived() {
					t.Error("two octets weren't asked for")
				}
				if _, err := io.ReadFull(c, make([]byte, 2)); err != nil || c.Arrived() {
					t.Errorf("all was read (%v)", err)
				}
			})
			t.Run("put back", func(t *testing.T) {
				c, peer, seal := arriving(t, secure)
				c.Unread([]byte("x"))
				if c.Arrived() || string(c.PutBack()) != "x" {
					t.Errorf("what was put back doesn't count: %q", c.PutBack())
				}
				sends(t, peer, seal("y"))
				arrives(t, c)
			})
			t.Run("within a chunk, alone", func(t *testing.T) {
				c, peer, seal := arriving(t, secure)
				sends(t, peer, seal("DONE\r\n"))
				r := pumped(t, c, 6)
				if len(r.more) != 1 || r.more[0] {
					t.Errorf("%q: %v", r.got, r.more)
				}
			})
			t.Run("ended by the peer", func(t *testing.T) {
				c, peer, _ := arriving(t, secure)
				_ = peer.Close()
				if _, err := c.Read(make([]byte, 1)); err == nil {
					t.Fatal("read something")
				}
				if c.Arrived() {
					t.Error("an end is nothing to read")
				}
			})
		})
	}
}

// Two records in one segment: the second lies in tls.Conn or before it, where no socket shows it.
func TestArrivedSeesARecordBehindTheOne(t *testing.T) {
	for name, pump := range map[string]bool{"read": false, "pumped": true} {
		for size, behind := range map[string]string{"small": "x NOOP\r\n", "large": "x STORE 1 +FLAGS (" + strings.Repeat("a ", 4000) + ")\r\n"} {
			t.Run(name+", "+size, func(t *testing.T) {
				c, peer, seal := arriving(t, true)
				sends(t, peer, append(seal("DONE\r\n"), seal(behind)...))
				if pump {
					r := pumped(t, c, len("DONE\r\n"+behind))
					if last := len(r.more) - 1; r.got != "DONE\r\n"+behind || slices.Index(r.more, false) != last {
						t.Errorf("%d octets: %v", len(r.got), r.more)
					}
					return
				}
				reads(t, c, "DONE\r\n")
				if !c.Arrived() {
					t.Error("the second record isn't seen")
				}
				reads(t, c, behind)
				if c.Arrived() {
					t.Error("all was read")
				}
			})
		}
	}
}

// The first octets of a record show that its sender has written it.
func TestArrivedSeesAPartOfARecord(t *testing.T) {
	for name, octets := range map[string]int{"of its head": 2, "of its body": 12} {
		for how, pump := range map[string]bool{"read": false, "pumped": true} {
			t.Run(name+", "+how, func(t *testing.T) {
				c, peer, seal := arriving(t, true)
				first, second := seal("DONE\r\n"), seal("x NOOP\r\n")
				sends(t, peer, append(first, second[:octets]...))
				if pump {
					r := pumped(t, c, len("DONE\r\n"))
					if len(r.more) != 1 || !r.more[0] {
						t.Errorf("%q: %v", r.got, r.more)
					}
				} else {
					reads(t, c, "DONE\r\n")
				}
				if !c.Arrived() {
					t.Error("a part of a record isn't seen")
				}
				sends(t, peer, second[octets:])
				reads(t, c, "x NOOP\r\n")
				if c.Arrived() {
					t.Error("all was read")
				}
			})
		}
	}
}

func pumped(t *testing.T, c *Conn, want int) *chunks {
	t.Helper()
	r := &chunks{t: t, c: c, want: want}
	if err := c.Pump(NewPool(), r); err != nil {
		t.Fatal(err)
	}
	return r
}

func sends(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

func reads(t *testing.T, r io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(r, b); err != nil || string(b) != want {
		t.Fatalf("%q, %v", b, err)
	}
}

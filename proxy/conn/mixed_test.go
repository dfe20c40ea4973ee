package conn

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

// raised is a Handler that says when it is woken.
type raised chan struct{}

func (h raised) Wake() { h <- struct{}{} }

// ragged writes in pieces of random lengths.
type ragged struct {
	net.Conn
	r *rand.Rand
}

func (c ragged) Write(p []byte) (int, error) {
	for i := 0; i < len(p); {
		n := 1 + c.r.IntN(1<<c.r.IntN(14))
		m, err := c.Conn.Write(p[i:min(i+n, len(p))])
		if i += m; err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// mixed reads a connection in one way after the other.
type mixed struct {
	*testing.T
	c    *Conn
	pool *Pool
	w    *Poller
	r    *rand.Rand
	got  []byte
}

// take is one step. The error is the connection's.
func (m *mixed) take() error {
	some := &collector{wanted: 1 + m.r.IntN(1<<m.r.IntN(16)), keep: func(b []byte) int { return m.r.IntN(min(len(b), MaxHold) + 1) }}
	defer func() {
		m.got = append(m.got, some.got...)
		m.scribble()
	}()
	switch m.r.IntN(7) {
	case 0:
		return m.c.Pump(m.pool, some)
	case 1: // a relay that is asked to stop
		m.c.Interrupt(Reads)
		err := m.c.Pump(m.pool, some)
		m.c.Rearm(Reads)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
		return err
	case 2, 3: // a session that rests
		err := m.c.Drain(m.pool, some)
		if err != ErrDry {
			return err
		}
		m.c.TrimAll(m.pool)
		m.c.Rest()
		defer m.c.Wake()
		if m.c.Holding(m.pool) {
			return nil
		}
		woken := make(raised, 1)
		must(m, m.w.Add(m.c, woken))
		<-woken
		return nil
	case 4: // the owner reads by itself
		m.c.Unhold()
		b := make([]byte, 1+m.r.IntN(1<<m.r.IntN(14)))
		n, err := m.c.Read(b)
		m.got = append(m.got, b[:n]...)
		return err
	case 5: // and puts back what it doesn't understand
		m.c.Unhold()
		n := m.r.IntN(min(len(m.got), 100) + 1)
		m.c.Unread(m.got[len(m.got)-n:])
		m.got = m.got[:len(m.got)-n]
	case 6:
		m.c.Arrived()
		m.c.Trim(m.pool)
	}
	return nil
}

// scribble has other connections use the buffers that were lent.
func (m *mixed) scribble() {
	z := m.pool.inflateBuffers()
	for i := range z.in {
		z.in[i] = 0xaa
	}
	m.pool.z.Put(z)
	b := m.pool.p.Get().(*buffers)
	for i := range b.plain {
		b.plain[i] = 0xaa
	}
	for i := range b.cipher {
		b.cipher[i] = 0xaa
	}
	m.pool.p.Put(b)
}

// A session's phases read its client's stream in different ways, one after the other. Nothing is lost, told twice or out of order, however
// the stream is cut into records and segments, and its end comes last.
func TestNothingIsLostBetweenWaysOfReading(t *testing.T) {
	pool, w := NewPool(), newPoller(t)
	for _, compressed := range []bool{false, true} {
		for seed := range uint64(4) {
			eachWay(t, func(t *testing.T, how way) {
				t.Run(fmt.Sprintf("compressed %v, %d", compressed, seed), func(t *testing.T) {
					r := rand.New(rand.NewPCG(seed, 1))
					sizes := rand.New(rand.NewPCG(seed, 2))
					c, peer := how.pair(t, func(c net.Conn) net.Conn { return ragged{c, sizes} })
					want := text(100 << 10)
					must(t, peer.SetDeadline(time.Time{})) // a busy machine takes its time
					send(t, func() (err error) {
						defer func() { err = errors.Join(err, peer.Close()) }() // otherwise the reader would wait
						var out io.Writer = peer
						if compressed {
							z, err := flate.NewWriter(peer, flate.DefaultCompression)
							if err != nil {
								return err
							}
							out = flushed{z}
						}
						for i := 0; i < len(want); {
							n := min(1+sizes.IntN(1<<sizes.IntN(17)), len(want)-i)
							if err := write(out, want[i:i+n]); err != nil {
								return err
							}
							i += n
						}
						return nil
					})
					if compressed {
						c.Inflate(pool, 8<<10)
					}
					m := &mixed{T: t, c: c, pool: pool, w: w, r: r}
					err := m.take()
					for err == nil {
						err = m.take()
					}
					m.got = append(m.got, c.Kept()...)
					if err != io.EOF || !bytes.Equal(m.got, want) {
						at := 0
						for at < min(len(m.got), len(want)) && m.got[at] == want[at] {
							at++
						}
						t.Errorf("%v after %d octets of %d; the first that differs is %d", err, len(m.got), len(want), at)
					}
				})
			})
		}
	}
}

// flushed ends a block with each write, as peers do behind each command.
type flushed struct{ *flate.Writer }

func (z flushed) Write(p []byte) (int, error) {
	n, err := z.Writer.Write(p)
	if err == nil {
		err = z.Flush()
	}
	return n, err
}

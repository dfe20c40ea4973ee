package conn

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// checkTLS finds out whether the buffers and the ciphers of a tls.Conn are what this package takes them for: it makes connections and reads records
// whole, in part and several at once, with buffers and ciphers taken away in between. The errors say what differs in this build's crypto/tls.
func checkTLS(names tlsNames) (buffers, ciphers error) {
	cert, err := throwaway()
	if err != nil {
		return err, nil
	}
	if err := checkVersion(names, false, cert, tls.VersionTLS12); err != nil {
		return fmt.Errorf("TLS 1.2: %w", err), nil
	}
	both := checkVersion(names, true, cert, tls.VersionTLS13)
	if both == nil {
		return nil, nil
	}
	if err := checkVersion(names, false, cert, tls.VersionTLS13); err != nil {
		return fmt.Errorf("TLS 1.3: %w", err), nil
	}
	return nil, fmt.Errorf("TLS 1.3, ciphers: %w", both)
}

// throwaway makes a certificate for one check.
func throwaway() (tls.Certificate, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// tape is the net.Conn below a tls.Conn of a check. Once it is on, writes are kept, and reads get what was put in, or errEmpty.
type tape struct {
	net.Conn
	on      bool
	in, out []byte
}

func (t *tape) Read(p []byte) (int, error) {
	switch {
	case !t.on:
		return t.Conn.Read(p)
	case len(t.in) == 0:
		return 0, errEmpty
	}
	n := copy(p, t.in)
	t.in = t.in[n:]
	return n, nil
}

func (t *tape) Write(p []byte) (int, error) {
	if !t.on {
		return t.Conn.Write(p)
	}
	t.out = append(t.out, p...)
	return len(p), nil
}

// tlsCheck is one connection of a check.
type tlsCheck struct {
	names        tlsNames
	layout       tlsLayout
	ciphers      bool
	ours, theirs *tls.Conn
	in, out      *tape // below ours, below theirs
	sent         byte  // the last byte of those sent so far, which count up
	want         byte  // the same of those read
}

func checkVersion(names tlsNames, ciphers bool, cert tls.Certificate, version uint16) error {
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	late := time.Now().Add(10 * time.Second)
	if err := errors.Join(a.SetDeadline(late), b.SetDeadline(late)); err != nil {
		return err
	}
	c := &tlsCheck{names: names, layout: names.layout(), ciphers: ciphers, in: &tape{Conn: a}, out: &tape{Conn: b}}
	curves := []tls.CurveID{tls.CurveP256} // FIPS 140-3 allows it; post-quantum ones take longer
	c.ours = tls.Server(c.in, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true, MaxVersion: version, CurvePreferences: curves})
	c.theirs = tls.Client(c.out, &tls.Config{InsecureSkipVerify: true, MaxVersion: version, CurvePreferences: curves, DynamicRecordSizingDisabled: true})
	done := make(chan error, 1)
	go func() { done <- c.theirs.Handshake() }() // ends by the deadline
	if err := errors.Join(c.ours.Handshake(), <-done); err != nil {
		return err
	}
	c.in.on, c.out.on = true, true
	return c.run()
}

func (c *tlsCheck) run() error {
	switch l := &c.layout; {
	case !l.rawInput.known:
		return fmt.Errorf("tls.Conn has no bytes.Buffer %s", c.names.rawInput)
	case !l.hand.known:
		return fmt.Errorf("tls.Conn has no bytes.Buffer %s", c.names.hand)
	case !l.input.known:
		return fmt.Errorf("tls.Conn has no bytes.Reader %s", c.names.input)
	}
	for _, size := range []int{1000, 16 << 10} {
		one, two, three := c.record(size), c.record(size), c.record(size)
		half := size / 2
		for _, step := range []struct {
			what string
			put  []byte
			read int // bytes that can be read; 0: none can
			held bool
		}{
			{"a part of a record is read", one, 10, true},
			{"the rest of it is read", nil, size - 10, false},
			{"half a record has come", two[:half], 0, true},
			{"the other half has come, and the next record", append(two[half:len(two):len(two)], three...), size, true},
			{"the next record is read", nil, size, false},
		} {
			c.in.in = append(c.in.in, step.put...)
			if err := c.step(step.read, step.held); err != nil {
				return fmt.Errorf("%s: %w", step.what, err)
			}
		}
	}
	if _, err := c.ours.Write([]byte("answer")); err != nil {
		return err
	}
	c.out.in = c.in.out
	var b [6]byte
	if n, err := c.theirs.Read(b[:]); err != nil || string(b[:n]) != "answer" {
		return fmt.Errorf("what is written afterwards is read as %q (%w)", b[:n], err)
	}
	return nil
}

// record returns a record with n bytes.
func (c *tlsCheck) record(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		c.sent++
		p[i] = c.sent
	}
	c.out.out = nil
	_, _ = c.theirs.Write(p) // to the tape, which takes everything
	return c.out.out
}

// step reads n bytes, or finds that there are none, says whether more are held, and takes the buffers away.
func (c *tlsCheck) step(n int, held bool) error {
	p := make([]byte, max(n, 1))
	for got := 0; got < len(p); {
		m, err := c.ours.Read(p[got:])
		if n == 0 && errors.Is(err, errEmpty) {
			break
		}
		if err != nil || n == 0 {
			return fmt.Errorf("%d bytes were read, not %d (%w)", got+m, n, err)
		}
		for _, b := range p[got : got+m] {
			if c.want++; b != c.want {
				return errors.New("other bytes are read than were sent")
			}
		}
		got += m
	}
	if c.layout.holding(c.ours) != held {
		return fmt.Errorf("bytes seem to be held: %v", !held)
	}
	c.layout.trim(c.ours)
	if c.ciphers && mayPutAway() && !c.layout.putAway(c.ours) {
		return errors.New("tls.Conn has no ciphers and secrets where they are looked for")
	}
	if kept := c.layout.kept(c.ours); !held && kept > 0 {
		return fmt.Errorf("%d bytes of buffers are kept", kept)
	}
	return nil
}

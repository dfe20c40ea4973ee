package conn

import (
	"bytes"
	"crypto/fips140"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// A Go release whose tls.Conn has other buffers, or uses those of the known names and types for something else, is found out.
func TestOtherBuffersAreFoundOut(t *testing.T) {
	buffers, ciphers := checkTLS(knownNames())
	must(t, buffers)
	must(t, ciphers)
	for name, other := range map[string]tlsNames{
		"a name is gone":            {input: "input", rawInput: "rawCipher", hand: "hand"},
		"a type is another":         {input: "input", rawInput: "conn", hand: "hand"},
		"decrypted bytes elsewhere": {input: "plain", rawInput: "rawInput", hand: "hand"},
		"the meaning is another":    {input: "input", rawInput: "hand", hand: "rawInput"},
		"half is somewhere else":    {input: "input", rawInput: "hand", hand: "hand"},
	} {
		if err, _ := checkTLS(other); err == nil {
			t.Errorf("%s: %+v passes", name, other)
		}
	}
}

// Where crypto/tls isn't the known one, nothing of it is touched, no Poller waits for a connection under TLS, and reading goes on.
func TestUnknownBuffersAreLeftAlone(t *testing.T) {
	ours, theirs := tlsPair(t, tls.VersionTLS13, asIs)
	pool := NewPool()
	pool.unfit = errors.New("another release")
	raw := field[bytes.Buffer](ours.tls, knownNames().rawInput)
	before := raw.Cap()
	ours.Trim(pool)
	if before == 0 || raw.Cap() != before {
		t.Errorf("%d bytes of the handshake's buffer, %d after", before, raw.Cap())
	}
	if !ours.Holding(pool) {
		t.Error("a Poller would wait")
	}
	if plain, _ := tcpPair(t); plain.Holding(pool) {
		t.Error("a connection in the clear needs nothing of crypto/tls")
	}
	want := text(100000)
	done := make(chan error, 1)
	go func() { done <- write(theirs, want) }() // ends with the write
	r := &collector{wanted: len(want)}
	must(t, ours.Pump(pool, r))
	must(t, <-done)
	if !bytes.Equal(r.got, want) {
		t.Error("other bytes came out than went in")
	}
	if err := ours.Drain(pool, r); err != ErrDry {
		t.Errorf("%v", err)
	}
}

// With FIPS 140-3 switched on, the known tls.Conn is known as well. Its ciphers stay.
func TestTheCheckKnowsFIPS(t *testing.T) {
	if !fips140.Enabled() {
		again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		again.Env = append(os.Environ(), "GODEBUG=fips140=on")
		if out, err := again.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	pool := NewPool()
	if must(t, pool.Unfit()); pool.ciphers {
		t.Error("ciphers are put away")
	}
}

func BenchmarkNewPool(b *testing.B) {
	for b.Loop() {
		if err := NewPool().Unfit(); err != nil {
			b.Fatal(err)
		}
	}
}

// A connection whose ciphers are put away, in either direction or both, again and again, is read and written as any other.
func TestCiphersThatArePutAwayAreMadeAgain(t *testing.T) {
	ours, theirs := tlsPair(t, tls.VersionTLS13, asIs)
	pool := NewPool()
	must(t, pool.Unfit())
	if !pool.ciphers {
		t.Fatal("ciphers aren't put away")
	}
	away := func(in, out bool) {
		t.Helper()
		if isAway(ours.tls, "in") != in || isAway(ours.tls, "out") != out {
			t.Errorf("in %v, out %v; want %v, %v", isAway(ours.tls, "in"), isAway(ours.tls, "out"), in, out)
		}
	}
	for _, size := range []int{1, 100, 20000, 1} {
		away(false, false)
		ours.TrimAll(pool)
		ours.TrimAll(pool)
		away(true, true)
		must(t, write(theirs, text(size)))
		got := make([]byte, size)
		_, err := io.ReadFull(ours, got)
		must(t, err)
		away(false, true)
		must(t, write(ours, got))
		_, err = io.ReadFull(theirs, got)
		must(t, err)
		if !bytes.Equal(got, text(size)) {
			t.Fatal("other bytes came back")
		}
	}
	ours.TrimAll(pool)
	must(t, ours.Close())
	if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the end is read as %v", err)
	}
}

// Under TLS 1.2 crypto/tls doesn't keep what the ciphers follow from.
func TestOtherCiphersStay(t *testing.T) {
	ours, theirs := tlsPair(t, tls.VersionTLS12, asIs)
	ours.TrimAll(NewPool())
	if isAway(ours.tls, "in") || isAway(ours.tls, "out") {
		t.Error("a cipher is away")
	}
	must(t, write(theirs, []byte("a")))
	_, err := io.ReadFull(ours, make([]byte, 1))
	must(t, err)
}

// The server's side keeps no secret of tickets while it is idle, the client's side does. Others may ask for the connection's state meanwhile.
func TestAnIdleServerForgetsItsHandshake(t *testing.T) {
	ours, theirs := tlsPair(t, tls.VersionTLS13, asIs)
	pool := NewPool()
	var others sync.WaitGroup
	others.Go(func() { // a watch that logs in for the session
		for range 100 {
			_ = ours.TLS()
		}
	})
	ours.TrimAll(pool)
	others.Wait()
	pool.layout.forget(theirs)
	if secret := field[[]byte](ours.tls, "resumptionSecret"); secret == nil || len(*secret) > 0 {
		t.Error("the secret of tickets is kept")
	}
	state := ours.tls.ConnectionState()
	_, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	must(t, err)
}

// isAway says whether a direction's cipher is put away.
func isAway(c *tls.Conn, name string) bool {
	l := knownNames().layout()
	d, ok := map[string]halfLayout{"in": l.in, "out": l.out}[name].of(c)
	return ok && isLazy(*d.cipher)
}

// An idle connection's rest, and the records in both directions with which it ends, without system calls.
func BenchmarkRestAndWake(b *testing.B) {
	ours, _ := tlsPair(b, tls.VersionTLS13, asIs)
	pool := NewPool()
	b.ReportAllocs()
	for b.Loop() {
		ours.TrimAll(pool)
		made(ours.tls, true)
		made(ours.tls, false)
	}
}

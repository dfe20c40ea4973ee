//go:build !race

package conn

import "testing"

// To look whether a compressed client has sent more takes memory that is lent. The race detector makes pools forget what they hold, so
// this isn't run with it.
func TestALookAtWhatHasArrivedAllocatesNothing(t *testing.T) {
	ours, raw := tcpPair(t)
	ours.Inflate(NewPool(), 0)
	theirs := newCompressing(t, raw)
	must(t, write(theirs, []byte("a1 NOOP\r\n")))
	b := make([]byte, 9)
	_, err := ours.Read(b)
	must(t, err)
	if ours.Arrived() {
		t.Fatal("more than was sent has arrived")
	}
	if n := testing.AllocsPerRun(200, func() {
		ours.inflate.more = true
		ours.Arrived()
	}); n > 3 { // the closure of the call on the socket, and what it returns
		t.Errorf("%v allocations", n)
	}
}

func TestASmallWriteAllocatesNothing(t *testing.T) {
	ours, theirs := tcpPair(t)
	line, b := []byte("* OK Still here\r\n"), make([]byte, 64)
	if n := testing.AllocsPerRun(200, func() {
		_, err := ours.Write(line)
		must(t, err)
		_, err = theirs.Read(b)
		must(t, err)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

package conn

import (
	"io"
	"testing"
)

// The receiver may go away while bytes are on their way through the kernel: they count as taken.
func TestSpliceCountsWhatItHasTaken(t *testing.T) {
	src, from := tcpPair(t)
	dst, to := tcpPair(t)
	const size = 8 << 20
	go func() {
		_, _ = from.Write(make([]byte, size))
		_ = from.Close()
	}()
	go func() {
		_, _ = io.ReadFull(to, make([]byte, 100_000))
		_ = to.Close()
	}()
	n, err := Splice(dst, src, size)
	if err == nil {
		t.Fatal("no error")
	}
	rest, err := io.Copy(io.Discard, src)
	if err != nil || n+rest != size {
		t.Errorf("took %d, %d were left, of %d: %v", n, rest, size, err)
	}
}

//go:build !race

package deflate

import "testing"

// The race detector makes the library's pools forget what they hold, so this isn't run with it.
func TestDeflateAllocatesNothingWithoutHistory(t *testing.T) {
	d := NewDeflater(0)
	var o Output
	text, line, mess := []byte(answers(200)), []byte("* OK Still here\r\n"), []byte(noise(20_000))
	d.Deflate(&o, text)
	if n := testing.AllocsPerRun(200, func() { d.Deflate(&o, text); d.Deflate(&o, line); d.Deflate(&o, mess) }); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

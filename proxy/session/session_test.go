package session

import (
	"testing"
	"unsafe"
)

// A Session is what most of a parked client's memory is taken by, beside tls.Conn. Go allocates objects of 896 bytes and then of 1,024, and needs a word for
// itself in objects with pointers of more than 512.
func TestASessionFitsItsSizeClass(t *testing.T) {
	if size, word := unsafe.Sizeof(Session{}), unsafe.Sizeof(uintptr(0)); size+word > 896 {
		t.Errorf("%d bytes", size)
	}
}

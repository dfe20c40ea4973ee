package conn

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// Trim gives back the two buffers that a tls.Conn keeps after its handshake
// (about 3.5 KB; 16 KB and more after one large record), when they are empty.
// There is no public way (golang/go #43563), so their places are looked up by
// name and type; where a Go release has other ones, nothing is done. Only the
// connection's reader may call it, outside a Pump.
func (c *Conn) Trim() {
	if c.tls == nil {
		return
	}
	for _, b := range tlsBuffers(c.tls) {
		if b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
}

// tlsBuffers are a tls.Conn's rawInput and hand, in this order, as far as they
// are what they are known to be.
func tlsBuffers(c *tls.Conn) []*bytes.Buffer {
	var found []*bytes.Buffer
	t := reflect.TypeFor[tls.Conn]()
	for _, name := range []string{"rawInput", "hand"} {
		f, ok := t.FieldByName(name)
		if !ok || f.Type != reflect.TypeFor[bytes.Buffer]() {
			return found
		}
		found = append(found, (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), f.Offset)))
	}
	return found
}

package conn

import (
	"bytes"
)

// Trim frees the buffers that a tls.Conn keeps after its handshake (about 3.5 KB; 16 KB and more after one
// large record), if they are empty. tls has no public way (golang/go #43563), so Trim finds the fields by
// name and type; in a Go release that has other fields it does nothing. Only the connection's reader may call
// it, outside a Pump.
func (c *Conn) Trim() {
	if len(c.hold) == 0 {
		c.hold = nil
	}
	if c.inflate != nil {
		c.inflate.z.Trim()
	}
	if c.tls == nil {
		return
	}
	if input := field[bytes.Reader](c.tls, "input"); input != nil && input.Len() == 0 {
		input.Reset(nil) // the data that was read last lay in rawInput's array
	}
	for _, name := range []string{"rawInput", "hand"} {
		if b := field[bytes.Buffer](c.tls, name); b != nil && b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
}

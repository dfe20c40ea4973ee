package conn

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// tlsNames are the names of the buffers of a tls.Conn: decrypted bytes, bytes of the socket, and messages of a handshake.
type tlsNames struct{ input, rawInput, hand string }

func knownNames() tlsNames { return tlsNames{input: "input", rawInput: "rawInput", hand: "hand"} }

// field returns a pointer to a field of c, nil if tls.Conn has no field of this name and type.
func field[T any](c *tls.Conn, name string) *T {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[T]() {
		return nil
	}
	return (*T)(unsafe.Add(unsafe.Pointer(c), f.Offset))
}

// holding says whether bytes that were taken from the socket, decrypted or not, may still have to be read.
func (n tlsNames) holding(c *tls.Conn) bool {
	input, raw := field[bytes.Reader](c, n.input), field[bytes.Buffer](c, n.rawInput)
	return input == nil || input.Len() > 0 || raw == nil || raw.Len() > 0
}

// trim frees the buffers that are empty.
func (n tlsNames) trim(c *tls.Conn) {
	if input := field[bytes.Reader](c, n.input); input != nil && input.Len() == 0 {
		input.Reset(nil) // the data that was read last lay in rawInput's array
	}
	for _, name := range []string{n.rawInput, n.hand} {
		if b := field[bytes.Buffer](c, name); b != nil && b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
}

// kept returns how many bytes the buffers take.
func (n tlsNames) kept(c *tls.Conn) (bytesKept int) {
	if input := field[bytes.Reader](c, n.input); input != nil {
		bytesKept += int(input.Size())
	}
	for _, name := range []string{n.rawInput, n.hand} {
		if b := field[bytes.Buffer](c, name); b != nil {
			bytesKept += b.Cap()
		}
	}
	return bytesKept
}

package conn

import (
	"bytes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// tlsNames are the names of the buffers of a tls.Conn: decrypted bytes, bytes of the socket, and messages of a handshake.
type tlsNames struct{ input, rawInput, hand string }

func knownNames() tlsNames { return tlsNames{input: "input", rawInput: "rawInput", hand: "hand"} }

// tlsLayout says where the fields of a tls.Conn are. A Pool has one, since to look for fields by name takes as long as a system call.
type tlsLayout struct {
	input          place[bytes.Reader]
	rawInput, hand place[bytes.Buffer]

	cipherSuite place[uint16]
	isClient    place[bool]
	resumption  place[[]byte] // the secret of session tickets
	in, out     halfLayout
}

// halfLayout says where the fields of one direction are.
type halfLayout struct {
	boxed  place[any]    // its cipher, a pointer to a struct that has a cipher.AEAD
	secret place[[]byte] // its traffic secret
}

func (n tlsNames) layout() tlsLayout {
	return tlsLayout{
		input: find[bytes.Reader](n.input), rawInput: find[bytes.Buffer](n.rawInput), hand: find[bytes.Buffer](n.hand),
		cipherSuite: find[uint16]("cipherSuite"), isClient: find[bool]("isClient"), resumption: find[[]byte]("resumptionSecret"),
		in:  halfLayout{find[any]("in", "cipher"), find[[]byte]("in", "trafficSecret")},
		out: halfLayout{find[any]("out", "cipher"), find[[]byte]("out", "trafficSecret")},
	}
}

// place is where a tls.Conn has a field of type T.
type place[T any] struct {
	offset uintptr
	known  bool // there is one
}

// find finds a field by its name and type. With several names each is a field of the one before.
func find[T any](names ...string) place[T] {
	var p place[T]
	at := reflect.TypeFor[tls.Conn]()
	for _, name := range names {
		if at.Kind() != reflect.Struct {
			return place[T]{}
		}
		f, ok := at.FieldByName(name)
		if !ok {
			return place[T]{}
		}
		at, p.offset = f.Type, p.offset+f.Offset
	}
	p.known = at == reflect.TypeFor[T]()
	return p
}

// of returns a pointer to the field of c, nil if tls.Conn has none.
func (p place[T]) of(c *tls.Conn) *T {
	if !p.known {
		return nil
	}
	return (*T)(unsafe.Add(unsafe.Pointer(c), p.offset))
}

// field returns a pointer to a field of c, nil if tls.Conn has no field of this name and type.
func field[T any](c *tls.Conn, name string) *T { return find[T](name).of(c) }

// holding says whether bytes that were taken from the socket, decrypted or not, may still have to be read.
func (l *tlsLayout) holding(c *tls.Conn) bool {
	input, raw := l.input.of(c), l.rawInput.of(c)
	return input == nil || input.Len() > 0 || raw == nil || raw.Len() > 0
}

// trim frees the buffers that are empty.
func (l *tlsLayout) trim(c *tls.Conn) {
	if input := l.input.of(c); input != nil && input.Len() == 0 {
		input.Reset(nil) // the data that was read last lay in rawInput's array
	}
	for _, b := range []*bytes.Buffer{l.rawInput.of(c), l.hand.of(c)} {
		if b != nil && b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
}

// kept returns how many bytes the buffers take.
func (l *tlsLayout) kept(c *tls.Conn) (bytesKept int) {
	if input := l.input.of(c); input != nil {
		bytesKept += int(input.Size())
	}
	for _, b := range []*bytes.Buffer{l.rawInput.of(c), l.hand.of(c)} {
		if b != nil {
			bytesKept += b.Cap()
		}
	}
	return bytesKept
}

// direction is what this package knows of one direction of a tls.Conn.
type direction struct {
	cipher *cipher.AEAD
	secret []byte
}

// of returns the direction of c. ok is false if it isn't what this package knows.
func (h halfLayout) of(c *tls.Conn) (d direction, ok bool) {
	boxed, secret := h.boxed.of(c), h.secret.of(c)
	if boxed == nil || secret == nil {
		return d, false
	}
	v := reflect.ValueOf(*boxed)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return d, false
	}
	aead, ok := v.Type().Elem().FieldByName("aead")
	if !ok || aead.Type != reflect.TypeFor[cipher.AEAD]() {
		return d, false
	}
	d.cipher = (*cipher.AEAD)(unsafe.Add(v.UnsafePointer(), aead.Offset))
	d.secret = *secret
	return d, len(d.secret) == sha256.Size
}

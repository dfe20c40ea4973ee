package conn

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// The ciphers of a connection under TLS 1.3 with AES-128-GCM take 1.9 KB, most of it tables that follow from the key. While a connection rests they are
// put away: the next record in a direction makes its cipher again from the direction's secret, which crypto/tls keeps for updates
// of the key. It costs about 2 µs.

// lazyCipher makes the cipher of one direction when it is first used. crypto/tls's mutex of the direction is held meanwhile.
type lazyCipher struct {
	at     *cipher.AEAD // where crypto/tls has the cipher
	secret []byte       // the direction's traffic secret
}

func (l *lazyCipher) NonceSize() int { return 12 }
func (l *lazyCipher) Overhead() int  { return 16 }

func (l *lazyCipher) Seal(dst, nonce, plaintext, additional []byte) []byte {
	return l.made().Seal(dst, nonce, plaintext, additional)
}

func (l *lazyCipher) Open(dst, nonce, ciphertext, additional []byte) ([]byte, error) {
	return l.made().Open(dst, nonce, ciphertext, additional)
}

// made puts the cipher in its place. RFC 8446 §7.1, §7.3.
func (l *lazyCipher) made() cipher.AEAD {
	const label = "\x00\x10\x09tls13 key\x00" // 16 octets, no context
	key, err := hkdf.Expand(sha256.New, l.secret, label, 16)
	if err != nil {
		panic(err) // the length is a constant
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	clear(key)
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	*l.at = gcm
	return gcm
}

// direction is what this package knows of one direction of a tls.Conn.
type direction struct {
	cipher *cipher.AEAD
	secret []byte
}

// directionOf returns a direction of c, "in" or "out". ok is false if it isn't what this package knows.
func directionOf(c *tls.Conn, name string) (d direction, ok bool) {
	half, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || half.Type.Kind() != reflect.Struct {
		return d, false
	}
	secret, known := half.Type.FieldByName("trafficSecret")
	boxed, ok := half.Type.FieldByName("cipher")
	if !ok || !known || secret.Type != reflect.TypeFor[[]byte]() || boxed.Type != reflect.TypeFor[any]() {
		return d, false
	}
	at := unsafe.Add(unsafe.Pointer(c), half.Offset)
	v := reflect.ValueOf(*(*any)(unsafe.Add(at, boxed.Offset)))
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return d, false
	}
	aead, ok := v.Type().Elem().FieldByName("aead")
	if !ok || aead.Type != reflect.TypeFor[cipher.AEAD]() {
		return d, false
	}
	d.cipher = (*cipher.AEAD)(unsafe.Add(v.UnsafePointer(), aead.Offset))
	d.secret = *(*[]byte)(unsafe.Add(at, secret.Offset))
	return d, len(d.secret) == sha256.Size
}

// putAway puts both ciphers of c away, if they are of TLS_AES_128_GCM_SHA256. It returns false if they can't be found.
func putAway(c *tls.Conn) bool {
	if suite := field[uint16](c, "cipherSuite"); suite == nil || *suite != tls.TLS_AES_128_GCM_SHA256 {
		return suite != nil
	}
	in, knowsIn := directionOf(c, "in")
	out, knowsOut := directionOf(c, "out")
	if !knowsIn || !knowsOut {
		return false
	}
	for _, d := range []direction{in, out} {
		if _, already := (*d.cipher).(*lazyCipher); !already {
			*d.cipher = &lazyCipher{at: d.cipher, secret: d.secret}
		}
	}
	return true
}

// isAway says whether a direction's cipher is put away.
func isAway(c *tls.Conn, name string) bool {
	d, ok := directionOf(c, name)
	if !ok {
		return false
	}
	_, away := (*d.cipher).(*lazyCipher)
	return away
}

// mayPutAway says whether ciphers may be made by this package: with FIPS 140-3 switched on, only crypto/tls may.
func mayPutAway() bool { return !fips140.Enabled() }

package conn

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"unsafe"
)

// The ciphers of a connection under TLS 1.3 with AES-128-GCM take 1.9 KB, most of it tables that follow from the key. While a connection rests they are
// put away: the next record in a direction makes its cipher again from the direction's secret, which crypto/tls keeps for updates
// of the key. It costs about 2 µs.

// lazyIn and lazyOut make the cipher of one direction of a connection when it is first used. crypto/tls's mutex of the direction is held meanwhile. They are
// the connection itself under another type, so that they take no memory.
type (
	lazyIn  struct{}
	lazyOut struct{}
)

func (l *lazyIn) conn() *tls.Conn  { return (*tls.Conn)(unsafe.Pointer(l)) }
func (l *lazyOut) conn() *tls.Conn { return (*tls.Conn)(unsafe.Pointer(l)) }

func (l *lazyIn) NonceSize() int  { return 12 }
func (l *lazyIn) Overhead() int   { return 16 }
func (l *lazyOut) NonceSize() int { return 12 }
func (l *lazyOut) Overhead() int  { return 16 }

func (l *lazyIn) Seal(dst, nonce, plaintext, additional []byte) []byte {
	return made(l.conn(), true).Seal(dst, nonce, plaintext, additional)
}

func (l *lazyIn) Open(dst, nonce, ciphertext, additional []byte) ([]byte, error) {
	return made(l.conn(), true).Open(dst, nonce, ciphertext, additional)
}

func (l *lazyOut) Seal(dst, nonce, plaintext, additional []byte) []byte {
	return made(l.conn(), false).Seal(dst, nonce, plaintext, additional)
}

func (l *lazyOut) Open(dst, nonce, ciphertext, additional []byte) ([]byte, error) {
	return made(l.conn(), false).Open(dst, nonce, ciphertext, additional)
}

// made makes the cipher of a direction and puts it in its place. RFC 8446 §7.1, §7.3.
func made(c *tls.Conn, in bool) cipher.AEAD {
	const label = "\x00\x10\x09tls13 key\x00" // 16 octets, no context
	l := layoutOf(c)
	half := l.out
	if in {
		half = l.in
	}
	d, ok := half.of(c)
	if !ok {
		panic("conn: a cipher that was put away is gone") // putAway has found it
	}
	key, err := hkdf.Expand(sha256.New, d.secret, label, 16)
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
	*d.cipher = gcm
	return gcm
}

// layoutOf returns the layout by which the ciphers of c were put away.
func layoutOf(c *tls.Conn) *tlsLayout {
	if s, ok := c.NetConn().(*socket); ok && s.layout != nil {
		return s.layout
	}
	l := knownNames().layout()
	return &l
}

// putAway puts both ciphers of c away, if they are of TLS_AES_128_GCM_SHA256. It returns false if they can't be found.
func (l *tlsLayout) putAway(c *tls.Conn) bool {
	if suite := l.cipherSuite.of(c); suite == nil || *suite != tls.TLS_AES_128_GCM_SHA256 {
		return suite != nil
	}
	in, knowsIn := l.in.of(c)
	out, knowsOut := l.out.of(c)
	if !knowsIn || !knowsOut {
		return false
	}
	if !isLazy(*in.cipher) {
		*in.cipher = (*lazyIn)(unsafe.Pointer(c))
	}
	if !isLazy(*out.cipher) {
		*out.cipher = (*lazyOut)(unsafe.Pointer(c))
	}
	return true
}

func isLazy(c cipher.AEAD) bool {
	switch c.(type) {
	case *lazyIn, *lazyOut:
		return true
	}
	return false
}

// forget drops what a server's side needs no more after its handshake: the secret of its session tickets. The client's side needs it for tickets that are
// still to come. What keys are exported from stays: ConnectionState reads it, which others than the owner may call at any time.
func (l *tlsLayout) forget(c *tls.Conn) {
	if client := l.isClient.of(c); client == nil || *client {
		return
	}
	if secret := l.resumption.of(c); secret != nil {
		clear(*secret)
		*secret = nil
	}
}

// mayPutAway says whether ciphers may be made by this package: with FIPS 140-3 switched on, only crypto/tls may.
func mayPutAway() bool { return !fips140.Enabled() }

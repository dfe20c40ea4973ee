package conn

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"io"
	"testing"
)

// half is one direction of a connection under TLS_AES_128_GCM_SHA256 that the test itself seals or opens: crypto/tls sends no KeyUpdate.
type half struct {
	t      *testing.T
	secret []byte
	seq    uint64
}

// Types of content and of handshake messages, RFC 8446 §5.1 and §4.
const (
	typeHandshake   = 22
	typeApplication = 23
	keyUpdate       = 24
)

// label is HKDF-Expand-Label without context, RFC 8446 §7.1.
func (h *half) label(name string, n int) []byte {
	name = "tls13 " + name
	out, err := hkdf.Expand(sha256.New, h.secret, string([]byte{0, byte(n), byte(len(name))})+name+"\x00", n)
	must(h.t, err)
	return out
}

// cipher returns the cipher and the nonce of the next record, RFC 8446 §5.3.
func (h *half) cipher() (cipher.AEAD, []byte) {
	block, err := aes.NewCipher(h.label("key", 16))
	must(h.t, err)
	gcm, err := cipher.NewGCM(block)
	must(h.t, err)
	nonce := h.label("iv", 12)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^h.seq)
	h.seq++
	return gcm, nonce
}

// update makes the direction's next secret, RFC 8446 §7.2.
func (h *half) update() { h.secret, h.seq = h.label("traffic upd", 32), 0 }

func (h *half) seal(kind byte, content []byte) []byte {
	gcm, nonce := h.cipher()
	head := []byte{typeApplication, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(content)+1+gcm.Overhead()))
	return gcm.Seal(head, nonce, append(content[:len(content):len(content)], kind), head)
}

// open reads a record.
func (h *half) open(r io.Reader) (kind byte, content []byte) {
	h.t.Helper()
	head := make([]byte, 5)
	_, err := io.ReadFull(r, head)
	must(h.t, err)
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	_, err = io.ReadFull(r, body)
	must(h.t, err)
	gcm, nonce := h.cipher()
	plain, err := gcm.Open(nil, nonce, body, head)
	must(h.t, err)
	return plain[len(plain)-1], plain[:len(plain)-1]
}

// A peer may change its keys while the connection is idle, and ask for new ones in the other direction, which its ciphers that were put away don't prevent.
// RFC 8446 §4.6.3.
func TestKeysAreUpdatedWhileAConnectionRests(t *testing.T) {
	pool := NewPool()
	if must(t, pool.Unfit()); !pool.ciphers {
		t.Fatal("ciphers aren't put away")
	}
	ours, theirs := tlsPair(t, tls.VersionTLS13, asIs)
	must(t, write(theirs, []byte("a"))) // behind the session tickets, which theirs reads with the answer
	reads(t, ours, "a")
	must(t, write(ours, []byte("b")))
	reads(t, theirs, "b")
	raw := theirs.NetConn()
	to, from := &half{t: t}, &half{t: t}
	for name, h := range map[string]*half{"out": to, "in": from} {
		secret, seq := find[[]byte](name, "trafficSecret").of(theirs), find[[8]byte](name, "seq").of(theirs)
		if secret == nil || seq == nil {
			t.Fatal("tls.Conn has other fields")
		}
		h.secret, h.seq = *secret, binary.BigEndian.Uint64(seq[:])
	}
	for range 3 {
		ours.TrimAll(pool)
		_, err := raw.Write(to.seal(typeHandshake, []byte{keyUpdate, 0, 0, 1, 1}))
		must(t, err)
		to.update()
		arrives(t, ours)
		if err := ours.Drain(pool, sink{}); err != ErrDry {
			t.Fatal(err)
		}
		if kind, content := from.open(raw); kind != typeHandshake || string(content) != "\x18\x00\x00\x01\x00" {
			t.Fatalf("%d %q", kind, content)
		}
		from.update()
		ours.TrimAll(pool)
		_, err = raw.Write(to.seal(typeApplication, []byte("n NOOP\r\n")))
		must(t, err)
		reads(t, ours, "n NOOP\r\n")
		ours.TrimAll(pool)
		must(t, write(ours, []byte("n OK\r\n")))
		if kind, content := from.open(raw); kind != typeApplication || string(content) != "n OK\r\n" {
			t.Fatalf("%d %q", kind, content)
		}
	}
}

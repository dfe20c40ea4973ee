package guessing

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
)

// fingerprint stands for a name or a password. It means nothing without the key, which the process forgets
// when it ends.
type fingerprint uint64

// key is the key of fingerprints.
type key []byte

func newKey() key {
	k := make(key, 32)
	_, _ = rand.Read(k) // it never fails
	return k
}

// print is the fingerprint of some texts.
func (k key) print(texts ...string) fingerprint {
	h := hmac.New(sha256.New, k)
	var length [8]byte
	for _, t := range texts {
		binary.BigEndian.PutUint64(length[:], uint64(len(t)))
		h.Write(length[:])
		text := []byte(t)
		h.Write(text)
		clear(text) // it may be a password
	}
	return fingerprint(binary.BigEndian.Uint64(h.Sum(nil)))
}

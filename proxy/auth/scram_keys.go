package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"strings"
)

// Bounds of stored keys. RFC 5802 §5.1 and RFC 7677 §4 ask for 4,096 iterations at least. Clients compute them, and the
// proxy itself for PLAIN.
const (
	minScramIterations = 4096
	maxScramIterations = 1_000_000
	maxScramSalt       = 128
)

// Keys are what is stored of a user's password for SCRAM (RFC 5802 §3). The zero value: there are none.
type Keys struct {
	mechanism      string // without -PLUS
	salt           string
	iterations     int
	stored, server string
}

// Proof stands for the keys: it changes with the password, and can't be used to log in. It is "" without keys.
func (k Keys) Proof() string { return base64.StdEncoding.EncodeToString([]byte(k.stored)) }

// scramHash is the hash of a mechanism, nil if it is none of SCRAM.
func scramHash(mechanism string) func() hash.Hash {
	switch strings.TrimSuffix(mechanism, plusSuffix) {
	case MechanismScramSHA256:
		return sha256.New
	case MechanismScramSHA1:
		return sha1.New
	}
	return nil
}

// matches compares a password that the client has sent (by PLAIN) with the keys, in constant time.
func (k *Keys) matches(password string) bool {
	h := scramHash(k.mechanism)
	salted, err := pbkdf2.Key(h, password, []byte(k.salt), k.iterations, h().Size())
	if err != nil {
		return false
	}
	mac := hmac.New(h, salted)
	mac.Write([]byte("Client Key"))
	sum := h()
	sum.Write(mac.Sum(nil))
	return subtle.ConstantTimeCompare(sum.Sum(nil), []byte(k.stored)) == 1
}

package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"strings"
	"sync/atomic"

	"imapproxy/telemetry"
)

// ScramOptions are the options of NewScram.
type ScramOptions struct {
	// Mechanisms are those that are offered, without -PLUS; none: nil is returned.
	Mechanisms []string
	// Secret makes up keys for users who have none. All proxies of a service have the same.
	Secret telemetry.Secret
}

// Scram is what a source does of SCRAM beside finding keys: it makes keys up for users who have none, so that the
// exchange doesn't show who has an account. Such keys stay the same for a name.
type Scram struct {
	mechanisms []string
	secret     []byte
	sha256     atomic.Uint64 // the shape of keys that were seen last, by mechanism; 0: none were
	sha1       atomic.Uint64
}

// Iterations and salt of keys that are made up before any were seen: Dovecot's.
const (
	madeUpIterations = 4096
	madeUpSalt       = 16
)

// NewScram returns what a source does of SCRAM, nil if it is nothing.
func NewScram(o ScramOptions) *Scram {
	if len(o.Mechanisms) == 0 {
		return nil
	}
	return &Scram{mechanisms: slices.Clone(o.Mechanisms), secret: []byte(o.Secret)}
}

// does says whether a mechanism is offered, with -PLUS or without.
func (s *Scram) does(mechanism string) bool {
	return s != nil && slices.Contains(s.mechanisms, strings.TrimSuffix(mechanism, plusSuffix))
}

// shape is where the shape of a mechanism's keys is.
func (s *Scram) shape(mechanism string) *atomic.Uint64 {
	if strings.HasPrefix(mechanism, MechanismScramSHA256) {
		return &s.sha256
	}
	return &s.sha1
}

// saw remembers what keys look like.
func (s *Scram) saw(k Keys) {
	if s != nil && k.mechanism != "" {
		s.shape(k.mechanism).Store(uint64(k.iterations)<<8 | uint64(len(k.salt)))
	}
}

// madeUp returns keys for a user who has none. No password fits them.
func (s *Scram) madeUp(mechanism, user string) Keys {
	mechanism = strings.TrimSuffix(mechanism, plusSuffix)
	iterations, salt := madeUpIterations, madeUpSalt
	if seen := s.shape(mechanism).Load(); seen != 0 {
		iterations, salt = int(seen>>8), int(seen&0xff)
	}
	made := func(what string, n int) string {
		var b []byte
		for i := byte(0); len(b) < n; i++ {
			h := hmac.New(sha256.New, s.secret)
			h.Write([]byte(mechanism + "\x00" + what + string(i) + "\x00" + user))
			b = h.Sum(b)
		}
		return string(b[:n])
	}
	size := scramHash(mechanism)().Size()
	return Keys{mechanism: mechanism, iterations: iterations, salt: made("salt", salt), stored: made("stored", size), server: made("server", size)}
}

package upstream

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

// Results about master logins (see verify.go) are kept for a while.
const (
	recheckAfter = time.Minute
	maxIntended  = 4096 // entries; more means that backends are added and removed all the time, then all are found out again
)

// MasterFindings has the results about the backends' master logins. A Dialer that replaces another shares it,
// since finding them out again costs a failed login, for which a backend may delay or block the proxy's
// address. It is safe for concurrent use.
type MasterFindings struct {
	secret [32]byte // keys the digests, so that they don't help guessing passwords

	mu    sync.Mutex // guards known; never held over I/O
	known map[intendedKey]*finding
}

type intendedKey struct {
	target Target
	master string
	digest [sha256.Size]byte // of the master's password
}

// finding is one entry. It is being found out until done is closed; then the other fields don't change any
// more.
type finding struct {
	done chan struct{}
	err  error     // nil: honoured
	at   time.Time // when it was found
	void bool      // there is no result, for a reason that doesn't concern other logins: a login that waited finds it out itself
}

// NewMasterFindings returns an empty MasterFindings.
func NewMasterFindings() *MasterFindings {
	v := &MasterFindings{known: make(map[intendedKey]*finding)}
	_, _ = rand.Read(v.secret[:]) // never fails (crypto/rand)
	return v
}

func (v *MasterFindings) key(t Target, a Auth) intendedKey {
	mac := hmac.New(sha256.New, v.secret[:])
	mac.Write([]byte(a.MasterPassword.Reveal()))
	return intendedKey{target: t, master: a.MasterUser, digest: [sha256.Size]byte(mac.Sum(nil))}
}

// refusal returns the error about a backend that was found not to honour master logins.
func (v *MasterFindings) refusal(now time.Time, t Target, a Auth) error {
	key := v.key(t, a)
	v.mu.Lock()
	defer v.mu.Unlock()
	f := v.known[key]
	if f == nil {
		return nil
	}
	select {
	case <-f.done:
		if f.err != nil && now.Sub(f.at) < recheckAfter {
			return f.err
		}
	default: // being found out
	}
	return nil
}

// claim returns the finding for key. mine: the caller must find it out and settle it.
func (v *MasterFindings) claim(now time.Time, key intendedKey, afresh bool) (f *finding, mine bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.known[key]; f != nil {
		select {
		case <-f.done:
			if !afresh && (f.err == nil || now.Sub(f.at) < recheckAfter) {
				return f, false
			}
		default:
			return f, false
		}
	}
	if len(v.known) >= maxIntended {
		clear(v.known) // those being found out are settled nevertheless
	}
	f = &finding{done: make(chan struct{})}
	v.known[key] = f
	return f, true
}

// older says whether the finding for key was made longer ago than after.
func (v *MasterFindings) older(now time.Time, key intendedKey, after time.Duration) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	f := v.known[key]
	if f == nil {
		return false
	}
	select {
	case <-f.done:
		return now.Sub(f.at) >= after
	default:
		return false
	}
}

// settle stores a finding's result. Only a definite result is kept.
func (v *MasterFindings) settle(now time.Time, key intendedKey, f *finding, err error) {
	f.err, f.at = err, now
	f.void = errors.Is(err, errGaveUp) || errors.Is(err, ErrUnverified)
	if err != nil && !errors.Is(err, ErrIntendedUser) && !errors.Is(err, ErrRights) {
		v.mu.Lock()
		if v.known[key] == f {
			delete(v.known, key)
		}
		v.mu.Unlock()
	}
	close(f.done)
}

// forget removes the findings about a backend.
func (v *MasterFindings) forget(t Target) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key := range v.known {
		if key.target == t {
			delete(v.known, key)
		}
	}
}

package upstream

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

// What was found out about master logins (verify.go has how) is kept for a while.
const (
	recheckAfter = time.Minute
	maxIntended  = 4096 // entries; more means that backends come and go, then all is asked anew
)

// MasterFindings is what is known about the backends' master logins. A Dialer that takes the place of
// another shares it, since finding it out anew is a login that fails, which a backend may
// punish the proxy's address for. It is safe for concurrent use.
type MasterFindings struct {
	secret [32]byte // keys the digests: no password can be guessed from them

	mu    sync.Mutex // guards known; never held over I/O
	known map[intendedKey]*finding
}

type intendedKey struct {
	target Target
	master string
	digest [sha256.Size]byte // of the master's password
}

// finding is one entry: being looked for until done is closed, then the rest
// doesn't change any more.
type finding struct {
	done chan struct{}
	err  error     // nil: honoured
	at   time.Time // when it was found
	void bool      // nothing was found out, for a reason that doesn't concern others: a login that waited looks by itself
}

// NewMasterFindings knows nothing yet.
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

// refusal gives the error of a backend that was found not to honour it.
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
	default: // being looked for
	}
	return nil
}

// claim gives the finding for key. mine says that the caller must look for it
// and settle it.
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
		clear(v.known) // those being looked for are settled all the same
	}
	f = &finding{done: make(chan struct{})}
	v.known[key] = f
	return f, true
}

// settle ends the search. Only what was truly found out is kept.
func (v *MasterFindings) settle(now time.Time, key intendedKey, f *finding, err error) {
	f.err, f.at = err, now
	f.void = errors.Is(err, errGaveUp) || errors.Is(err, ErrUnverified)
	if err != nil && !errors.Is(err, ErrIntendedUser) {
		v.mu.Lock()
		if v.known[key] == f {
			delete(v.known, key)
		}
		v.mu.Unlock()
	}
	close(f.done)
}

// forget drops what was found out about a backend.
func (v *MasterFindings) forget(t Target) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key := range v.known {
		if key.target == t {
			delete(v.known, key)
		}
	}
}

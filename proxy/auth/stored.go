package auth

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// Stored compares passwords with what a source has stored, in the schemes of a passwd-file.
type Stored struct {
	hashing *Hashing
	last    atomic.Pointer[verifier] // for users that aren't known
}

// NewStored returns one that hashes within the bounds of h; nil means bounds of its own.
func NewStored(h *Hashing) *Stored {
	if h == nil {
		h = NewHashing(0)
	}
	return &Stored{hashing: h}
}

// Verdict compares. Accepted is empty; a stored password that can't be read is Unavailable, with an error that
// never repeats it. A locked account costs as much time as a wrong password.
func (s *Stored) Verdict(ctx context.Context, stored string, c Credentials) Verdict {
	v, err := parsePassword(stored)
	switch {
	case errors.Is(err, errLocked):
		if _, err := s.Idle(ctx, c); err != nil {
			return Unavailable{err}
		}
		return Rejected{Reason: ReasonAccountDisabled}
	case err != nil:
		return Unavailable{fmt.Errorf("the stored password: %w", err)}
	}
	if !v.cheap() {
		s.last.Store(v)
	}
	ok, err := s.hashing.matches(ctx, v, c)
	switch {
	case err != nil:
		return Unavailable{err}
	case !ok:
		return Rejected{Reason: ReasonBadPassword}
	}
	return Accepted{}
}

// StoredKeys reads the keys for a mechanism from a password field in a scheme of a passwd-file. The verdict is the one
// of a right proof, empty: Rejected where there are no such keys, Unavailable where the field can't be read.
func StoredKeys(mechanism, field string) (Keys, Verdict) {
	v, err := parsePassword(field)
	switch {
	case errors.Is(err, errLocked):
		return Keys{}, Rejected{Reason: ReasonAccountDisabled}
	case err != nil:
		return Keys{}, Unavailable{fmt.Errorf("the stored password: %w", err)}
	}
	k, ok := v.keysFor(mechanism)
	if !ok {
		return Keys{}, Rejected{Reason: ReasonNoScramKeys}
	}
	return k, Accepted{}
}

// StoredUsable is the verdict about a user who needs no password, by the password field of a source: empty Accepted, or
// Rejected where the field locks the account. A field that can't be read is Unavailable.
func StoredUsable(field string) Verdict {
	switch _, err := parsePassword(field); {
	case errors.Is(err, errLocked):
		return Rejected{Reason: ReasonAccountDisabled}
	case err != nil:
		return Unavailable{fmt.Errorf("the stored password: %w", err)}
	}
	return Accepted{}
}

// Idle does what a wrong password costs, by the scheme of a password that was compared lately.
// It says whether there was one.
func (s *Stored) Idle(ctx context.Context, c Credentials) (spent bool, err error) {
	v := s.last.Load()
	if v == nil {
		return false, nil
	}
	_, err = s.hashing.matches(ctx, v, c)
	return true, err
}

// matches hashes the client's password when there is room for it.
func (h *Hashing) matches(ctx context.Context, v *verifier, c Credentials) (bool, error) {
	raw := c.Password.Reveal()
	switch {
	case len(raw) > maxPassword:
		return false, nil
	case v.cheap():
		return v.matches(raw), nil
	}
	ok, err := h.do(ctx, c.Client, c.Known, c.Trace, func() bool { return v.matches(raw) })
	if err != nil {
		return false, fmt.Errorf("waiting for a password to be hashed: %w", err)
	}
	return ok, nil
}

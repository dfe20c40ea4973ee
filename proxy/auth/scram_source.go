package auth

import (
	"context"
	"errors"
)

// FirstKeys is First for SCRAM: it finds the user's keys for c.Mechanism, and the verdict if the client proves that it
// knows the password. The verdict is Accepted, Rejected (keys are made up if there are none: no proof can be right) or
// Unavailable.
func FirstKeys(ctx context.Context, sources []Source, c Credentials) (k Keys, v Verdict, source string) {
	asked := Asked(sources, c.Mechanism)
	for _, s := range asked {
		keeper := s.(Keeper)
		k, v = keeper.Keys(ctx, c)
		source = s.Name()
		if _, unknown := v.(Unknown); unknown {
			continue
		}
		keeper.Scram().saw(k)
		break
	}
	switch v.(type) {
	case nil:
		return Keys{}, Unavailable{errNoSource}, "none"
	case Unavailable:
		return Keys{}, v, source
	case Unknown:
		v = Rejected{Reason: ReasonUnknownUser}
	case Accepted:
		if k.stored == "" {
			return Keys{}, Unavailable{errNoKeys}, source
		}
	}
	if k.stored == "" {
		for _, s := range asked {
			if scram := s.(Keeper).Scram(); scram.does(c.Mechanism) {
				return scram.madeUp(c.Mechanism, c.User), v, source
			}
		}
	}
	return k, v, source
}

// errNoKeys: a source would accept a proof, and gives no keys to check it by.
var errNoKeys = errors.New("the source gave no keys")

// recheckKeys is Recheck for a session that logged in by SCRAM: c.Password is the Proof of its keys. Other keys are
// another password.
func recheckKeys(ctx context.Context, sources []Source, c Credentials) Verdict {
	k, v, _ := FirstKeys(ctx, sources, c)
	if _, ok := v.(Accepted); ok && k.Proof() != c.Password.Reveal() {
		return Rejected{Reason: ReasonBadPassword}
	}
	return v
}

package ldapauth

import (
	"context"
	"errors"
	"strings"

	"imapproxy/proxy/auth"
)

// Scram implements auth.Keeper.
func (s *Source) Scram() *auth.Scram { return s.scram }

// Keys implements auth.Keeper. Of the attribute's values one counts that has keys for the mechanism. The directory is
// asked for no bind: what it knows of locked accounts counts only by Options.Allow and the groups.
func (s *Source) Keys(ctx context.Context, c auth.Credentials) (k auth.Keys, v auth.Verdict) {
	v = s.asking.Ask(ctx, c, func(ctx context.Context) auth.Verdict {
		dn, e, v := s.locate(ctx, c.User, s.o.ScramAttribute)
		if v != nil {
			return v
		}
		v = auth.Rejected{Reason: auth.ReasonNoScramKeys}
		prefix := "{" + strings.TrimSuffix(c.Mechanism, "-PLUS") + "}"
		for _, value := range e.GetEqualFoldAttributeValues(s.o.ScramAttribute) {
			if len(value) > len(prefix) && strings.EqualFold(value[:len(prefix)], prefix) {
				k, v = auth.StoredKeys(c.Mechanism, value)
				break
			}
		}
		if _, ok := v.(auth.Accepted); ok {
			return s.allowed(ctx, c.User, dn)
		}
		return v
	})
	return k, v
}

// Certified implements auth.Certifier. With Options.UserDN no one but the user reads their entry, so nothing is known of it.
func (s *Source) Certified(ctx context.Context, c auth.Credentials) auth.Verdict {
	if s.o.UserDN != "" {
		return auth.Unavailable{Err: errNoSearch}
	}
	return s.asking.Ask(ctx, c, func(ctx context.Context) auth.Verdict {
		dn, _, v := s.locate(ctx, c.User, "1.1")
		if v != nil {
			return v
		}
		return s.allowed(ctx, c.User, dn)
	})
}

// errNoSearch says that a user's entry can only be read with their password.
var errNoSearch = errors.New("user_dn: without a password nothing is known of a user; base and filter are needed")

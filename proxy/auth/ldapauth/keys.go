package ldapauth

import (
	"context"
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

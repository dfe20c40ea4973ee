package ldapauth

import (
	"context"
	"fmt"

	"github.com/go-ldap/ldap/v3"

	"imapproxy/proxy/auth"
)

// Try implements auth.Trier: it binds as a login's search does, or as a user that doesn't exist.
func (s *Source) Try(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.asking.Timeout())
	defer cancel()
	if s.o.UserDN != "" {
		switch v := s.direct(ctx, auth.Credentials{User: "imapproxy-check@check.invalid", Password: "no one's"}).(type) {
		case auth.Unavailable:
			return "", s.fault(v.Err)
		case auth.Accepted:
			return "", &auth.Fault{Err: fmt.Errorf("%s accepts a user that doesn't exist, with a made-up password", s.host),
				Mend: "have the directory refuse such a bind"}
		}
		return s.host + " answers, and refuses a user that doesn't exist", nil
	}
	for _, base := range []string{s.o.Base, s.o.GroupBase} {
		if base == "" {
			continue
		}
		var found []*ldap.Entry
		err := s.searches.do(ctx, func(l *ldap.Conn) (err error) {
			found, err = find(l, base, ldap.ScopeBaseObject, "(objectClass=*)", "1.1")
			return err
		})
		switch {
		case err != nil:
			return "", s.fault(err)
		case len(found) == 0:
			return "", s.fault(ldap.NewError(ldap.LDAPResultNoSuchObject, fmt.Errorf("%s isn't visible", base)))
		}
	}
	return s.host + " answers, and shows " + s.o.Base, nil
}

// fault is an error with what mends it.
func (s *Source) fault(err error) error {
	return &auth.Fault{Err: fmt.Errorf("%s: %w", s.host, auth.Said(err)), Mend: mend(err)}
}

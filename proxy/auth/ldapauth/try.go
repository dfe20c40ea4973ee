package ldapauth

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-ldap/ldap/v3"

	"imapproxy/proxy/auth"
)

// Try implements auth.Trier: it binds as a login's search does, or as a user that doesn't exist.
func (s *Source) Try(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.asking.Timeout())
	defer cancel()
	if s.o.UserDN != "" {
		switch v := s.direct(ctx, auth.Credentials{User: checkUser, Password: "no one's"}).(type) {
		case auth.Unavailable:
			return "", s.fault(ctx, v.Err)
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
			return "", s.fault(ctx, at(base, err))
		case len(found) == 0:
			return "", s.fault(ctx, ldap.NewError(ldap.LDAPResultNoSuchObject, fmt.Errorf("%s isn't visible", base)))
		}
	}
	switch _, _, v := s.locate(ctx, checkUser, "1.1"); v := v.(type) {
	case auth.Unavailable:
		return "", s.fault(ctx, v.Err)
	case nil:
		return "", s.fault(ctx, errAnyone)
	}
	return s.host + " answers, and shows " + s.o.Base, nil
}

// checkUser is the user that Try asks about.
const checkUser = "imapproxy-check@check.invalid"

// at says below which entry the directory has searched in vain.
func at(base string, err error) error {
	if own := new(serviceBind); codeOf(err) <= 0 || ldap.IsErrorWithCode(err, ldap.ErrorNetwork) || errors.As(err, &own) {
		return err
	}
	return fmt.Errorf("%s: %w", base, err)
}

// fault is an error with what mends it.
func (s *Source) fault(ctx context.Context, err error) error {
	if ctx.Err() != nil { // the library says that the connection is closed
		err = fmt.Errorf("no answer in %v: %w", s.asking.Timeout(), context.DeadlineExceeded)
	}
	return &auth.Fault{Err: fmt.Errorf("%s: %w", s.host, auth.Said(err)), Mend: mend(err)}
}

package ldapauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/go-ldap/ldap/v3"

	"imapproxy/proxy/auth"
)

// Source asks a directory. A search and a bind are sent over connections of their own, since a bind
// changes whom a connection stands for; and a connection serves one login at a time, since RFC 4511
// §4.2.1 lets nothing else be under way during a bind.
type Source struct {
	o        Options
	host     string
	asking   *auth.Asking
	searches *pool // bound as BindDN
	binds    *pool
	scram    *auth.Scram
}

// New makes the source. It connects to nothing yet.
func New(o Options) (*Source, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" || u.Hostname() == "" {
		return nil, errors.New("not the URL of an LDAP directory")
	}
	for template, dn := range map[string]string{o.Filter: "", o.Allow: "cn=x", o.GroupFilter: "cn=x"} {
		if template == "" {
			continue
		}
		filter, err := expand(template, "user@example.org", dn, ldap.EscapeFilter)
		if err == nil {
			_, err = ldap.CompileFilter(filter)
		}
		if err != nil {
			return nil, fmt.Errorf("filter %q: %w", template, err)
		}
	}
	if o.UserDN != "" {
		dn, err := expand(o.UserDN, "user@example.org", "", ldap.EscapeDN)
		if err == nil {
			_, err = ldap.ParseDN(dn)
		}
		if err != nil {
			return nil, fmt.Errorf("DN %q: %w", o.UserDN, err)
		}
	}
	s := &Source{o: o, host: u.Host, asking: auth.NewAsking(o.Asking), scram: auth.NewScram(o.Scram)}
	s.binds = newPool(func(ctx context.Context) (*pooled, error) { return dial(ctx, u, o, "", "") })
	s.searches = newPool(func(ctx context.Context) (*pooled, error) { return dial(ctx, u, o, o.BindDN, o.BindPassword) })
	return s, nil
}

// Name implements auth.Source.
func (s *Source) Name() string { return cmp.Or(s.o.Name, "ldap") }

// Close implements auth.Source.
func (s *Source) Close() error {
	s.searches.close()
	s.binds.close()
	return nil
}

// Authenticate implements auth.Source.
func (s *Source) Authenticate(ctx context.Context, c auth.Credentials) auth.Verdict {
	if c.Password == "" { // RFC 4513 §5.1.2: a directory calls that a success
		return auth.Rejected{Reason: auth.ReasonBadPassword}
	}
	return s.asking.Ask(ctx, c, func(ctx context.Context) auth.Verdict {
		if s.o.UserDN != "" {
			return s.direct(ctx, c)
		}
		return s.search(ctx, c)
	})
}

// direct binds as the DN that the template says, and has the user read their own entry.
func (s *Source) direct(ctx context.Context, c auth.Credentials) auth.Verdict {
	dn, err := expand(s.o.UserDN, c.User, "", ldap.EscapeDN)
	if err != nil {
		return auth.Unavailable{Err: err}
	}
	var bound error
	var v auth.Verdict
	err = s.binds.do(ctx, func(l *ldap.Conn) error {
		if bound = l.Bind(dn, c.Password.Reveal()); bound != nil {
			return bound
		}
		var err error
		v, err = s.entry(l, c.User, dn)
		return err
	})
	switch {
	case bound != nil:
		return refused(bound)
	case err != nil:
		return auth.Unavailable{Err: auth.Said(err)}
	}
	return v
}

// search finds the user's entry, binds as it, and looks whether the user may log in.
func (s *Source) search(ctx context.Context, c auth.Credentials) auth.Verdict {
	dn, _, v := s.locate(ctx, c.User, "1.1")
	if v != nil {
		return v
	}
	if err := s.binds.do(ctx, func(l *ldap.Conn) error { return l.Bind(dn, c.Password.Reveal()) }); err != nil {
		return refused(err)
	}
	return s.allowed(ctx, c.User, dn)
}

// locate finds the user's entry. The verdict is nil if there is exactly one.
func (s *Source) locate(ctx context.Context, user string, attributes ...string) (dn string, e *ldap.Entry, v auth.Verdict) {
	filter, err := expand(s.o.Filter, user, "", ldap.EscapeFilter)
	if err != nil {
		return "", nil, auth.Unavailable{Err: err}
	}
	var found []*ldap.Entry
	err = s.searches.do(ctx, func(l *ldap.Conn) (err error) {
		found, err = find(l, s.o.Base, ldap.ScopeWholeSubtree, filter, attributes...)
		return err
	})
	switch {
	case err != nil:
		return "", nil, auth.Unavailable{Err: fmt.Errorf("search: %w", auth.Said(err))}
	case len(found) == 0:
		return "", nil, auth.Unknown{}
	case len(found) > 1:
		return "", nil, auth.Unavailable{Err: errSeveral}
	}
	return found[0].DN, found[0], nil
}

// allowed has the proxy's own connection read the user's entry.
func (s *Source) allowed(ctx context.Context, user, dn string) (v auth.Verdict) {
	err := s.searches.do(ctx, func(l *ldap.Conn) (err error) {
		v, err = s.entry(l, user, dn)
		return err
	})
	if err != nil {
		return auth.Unavailable{Err: fmt.Errorf("search: %w", auth.Said(err))}
	}
	return v
}

// entry reads what the directory says of a user whose password is right: whether they may log in, and
// their name and backend.
func (s *Source) entry(l *ldap.Conn, user, dn string) (auth.Verdict, error) {
	if s.o.Allow == "" && s.o.UserAttribute == "" && s.o.PlacementAttribute == "" && s.o.GroupFilter == "" {
		return auth.Accepted{}, nil
	}
	allow := "(objectClass=*)"
	if s.o.Allow != "" {
		var err error
		if allow, err = expand(s.o.Allow, user, dn, ldap.EscapeFilter); err != nil {
			return nil, err
		}
	}
	wanted := []string{"1.1"}
	for _, name := range []string{s.o.UserAttribute, s.o.PlacementAttribute} {
		if name != "" {
			wanted = append(wanted, name)
		}
	}
	found, err := find(l, dn, ldap.ScopeBaseObject, allow, wanted...)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return auth.Rejected{Reason: auth.ReasonAccountDisabled}, nil
	}
	if s.o.GroupFilter != "" {
		filter, err := expand(s.o.GroupFilter, user, dn, ldap.EscapeFilter)
		if err != nil {
			return nil, err
		}
		groups, err := find(l, s.o.GroupBase, ldap.ScopeWholeSubtree, filter, "1.1")
		if err != nil {
			return nil, err
		}
		if len(groups) == 0 {
			return auth.Rejected{Reason: auth.ReasonAccountDisabled}, nil
		}
	}
	return s.accepted(found[0])
}

// accepted reads the attributes. One that is named and isn't there leaves things as they are.
func (s *Source) accepted(e *ldap.Entry) (auth.Verdict, error) {
	var a auth.Accepted
	if s.o.PlacementAttribute != "" {
		a.Placement = e.GetEqualFoldAttributeValue(s.o.PlacementAttribute)
	}
	if s.o.UserAttribute == "" {
		return a, nil
	}
	switch values := e.GetEqualFoldAttributeValues(s.o.UserAttribute); len(values) {
	case 0:
	case 1:
		canonical, err := s.o.Names.Given(values[0])
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", s.o.UserAttribute, err)
		}
		a.User = canonical
	default:
		return nil, fmt.Errorf("attribute %s has %d values", s.o.UserAttribute, len(values))
	}
	return a, nil
}

// find searches for at most two entries: one more than is good. Referrals aren't followed.
func find(l *ldap.Conn, base string, scope int, filter string, attributes ...string) ([]*ldap.Entry, error) {
	r, err := l.Search(ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, 2, searchSeconds, false, filter, attributes, nil))
	if err != nil && !(ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) && r != nil && len(r.Entries) > 0) {
		return nil, err
	}
	return r.Entries, nil
}

// searchSeconds is the time limit that a search asks for; the proxy's own is shorter.
const searchSeconds = 30

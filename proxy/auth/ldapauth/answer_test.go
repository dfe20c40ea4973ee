package ldapauth

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"imapproxy/proxy/auth"
)

func TestRefusals(t *testing.T) {
	ad := func(data string) string {
		return "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data " + data + ", v2580"
	}
	for _, c := range []struct {
		code uint16
		text string
		want string
	}{
		{49, "", "bad_password"}, {49, ad("52e"), "bad_password"}, {49, ad("525"), "unknown"},
		{49, ad("530"), "account_disabled"}, {49, ad("533"), "account_disabled"}, {49, ad("701"), "account_disabled"},
		{49, ad("773"), "account_disabled"}, {49, ad("775"), "account_disabled"},
		{32, "", "unknown"}, {19, "Exceed password retry limit", "account_disabled"}, {48, "", "account_disabled"}, {53, "Account inactivated", "account_disabled"},
		{1, "", "unavailable"}, {3, "", "unavailable"}, {8, "", "unavailable"}, {10, "", "unavailable"}, {11, "", "unavailable"},
		{13, "", "unavailable"}, {51, "", "unavailable"}, {52, "", "unavailable"}, {80, "", "unavailable"}, {ldap.ErrorNetwork, "gone", "unavailable"},
	} {
		got := "unavailable"
		switch v := refused(ldap.NewError(c.code, errors.New(c.text))).(type) {
		case auth.Rejected:
			got = string(v.Reason)
		case auth.Unknown:
			got = "unknown"
		}
		if got != c.want {
			t.Errorf("%d %q: %s, want %s", c.code, c.text, got, c.want)
		}
	}
	if _, ok := refused(&serviceBind{ldap.NewError(49, errors.New(""))}).(auth.Unavailable); !ok {
		t.Error("the service account's wrong password is the user's")
	}
	long := auth.Said(fmt.Errorf("a\x1b[2Jb\nc%s", strings.Repeat("x", 1000)))
	if text := long.Error(); strings.ContainsAny(text, "\x1b\n") || len(text) > 200+4 {
		t.Errorf("%q", text)
	}
}

func TestTemplates(t *testing.T) {
	for _, c := range []struct {
		template, user, dn string
		escape             func(string) string
		want               string
	}{
		{"(mail=%u)", "alice@example.org", "", ldap.EscapeFilter, "(mail=alice@example.org)"},
		{"%n,%d,%%", "alice@b@example.org", "", ldap.EscapeDN, "alice@b,example.org,%"},
		{"%n-%d", "alice", "", ldap.EscapeDN, "alice-"},
		{"%u", "*)(uid=\\", "", ldap.EscapeFilter, `\2a\29\28uid=\5c`},
		{"%u", `a,b+c"d#`, "", ldap.EscapeDN, `a\,b\+c\"d#`},
		{"%D", "alice", "cn=a*", ldap.EscapeFilter, `cn=a\2a`},
	} {
		if got, err := expand(c.template, c.user, c.dn, c.escape); err != nil || got != c.want {
			t.Errorf("%s for %s: %s, want %s (%v)", c.template, c.user, got, c.want, err)
		}
	}
	for _, bad := range []string{"%", "%x", "a%"} {
		if _, err := expand(bad, "alice", "cn=a", ldap.EscapeDN); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if _, err := expand("%D", "alice", "", ldap.EscapeDN); err == nil {
		t.Error("%D before the DN is known")
	}
	for _, bad := range []Options{
		{URL: "http://127.0.0.1", UserDN: "uid=%u"}, {URL: "ldap://127.0.0.1", Filter: "(uid=%u", Base: "dc=x"}, {URL: "ldap://127.0.0.1", Filter: "(uid=%x)", Base: "dc=x"},
		{URL: "ldap://127.0.0.1", UserDN: "uid"}, {URL: "ldap://127.0.0.1", UserDN: "uid=%u", Allow: "x"}, {URL: "ldap://127.0.0.1", Base: "dc=x", Filter: "(member=%D)"},
	} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// An empty password is a success for a directory (RFC 4513 §5.1.2): none is asked.
func TestAnEmptyPasswordIsNotSent(t *testing.T) {
	s, err := New(Options{URL: "ldap://127.0.0.1:1", UserDN: "uid=%u"})
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := s.Authenticate(t.Context(), auth.Credentials{User: "alice"}).(auth.Rejected); !ok {
		t.Errorf("%#v", v)
	}
	if v, ok := s.Authenticate(t.Context(), auth.Credentials{User: "alice", Password: "x"}).(auth.Unavailable); !ok {
		t.Errorf("a directory that isn't there: %#v", v)
	}
}

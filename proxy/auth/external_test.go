package auth

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestExternalTakesANameOrNothing(t *testing.T) {
	for name, c := range map[string]struct {
		initial string
		has     bool
		lines   []string
		authzid string
		err     error
	}{
		"nothing":                 {initial: "=", has: true},
		"nothing, by challenge":   {lines: []string{""}},
		"a name":                  {initial: b64("alice@example.org"), has: true, authzid: "alice@example.org"},
		"a name, by challenge":    {lines: []string{b64("älice")}, authzid: "älice"},
		"NUL":                     {initial: b64("alice\x00"), has: true, err: ErrMessage},
		"not UTF-8":               {initial: b64("\xffalice"), has: true, err: ErrMessage},
		"cancelled":               {lines: []string{"*"}, err: ErrCancelled},
		"no base64":               {initial: "alice!", has: true, err: ErrSyntax},
		"an empty one":            {has: true, err: ErrSyntax},
		"long":                    {initial: b64(strings.Repeat("a", MaxResponseLine)), has: true, err: ErrSyntax},
		"= isn't nothing on line": {lines: []string{"="}, err: ErrSyntax},
	} {
		x, _, done, err := converse("external", c.initial, c.has, c.lines...)
		authzid, user, password := x.Result()
		if !errors.Is(err, c.err) || done != (c.err == nil) || authzid != c.authzid || user != "" || password != "" {
			t.Errorf("%s: %q, %q, done %v, %v", name, authzid, user, done, err)
		}
	}
}

// certifier is one of several sources.
type certifier struct {
	Source
	verdict Verdict
	asked   int
}

func (s *certifier) Name() string { return "sql" }
func (s *certifier) Certified(context.Context, Credentials) Verdict {
	s.asked++
	return s.verdict
}

// No source that compares passwords is asked, and the first that knows the user decides.
func TestTheFirstThatKnowsTheUserDecidesAboutACertificate(t *testing.T) {
	c := Credentials{User: "alice", Mechanism: MechanismExternal}
	for name, v := range map[string]struct {
		first, second, want Verdict
		asked               int
	}{
		"the first":   {Accepted{}, Rejected{Reason: ReasonAccountDisabled}, Accepted{}, 0},
		"locked":      {Rejected{Reason: ReasonAccountDisabled}, Accepted{}, Rejected{Reason: ReasonAccountDisabled}, 0},
		"away":        {Unavailable{context.Canceled}, Accepted{}, Unavailable{context.Canceled}, 0},
		"the second":  {Unknown{}, Accepted{}, Accepted{}, 1},
		"none":        {Unknown{}, Unknown{}, Rejected{Reason: ReasonUnknownUser}, 1},
		"no verdict":  {nil, Accepted{}, Unavailable{errNoVerdict}, 0},
		"not another": {Unknown{}, nil, Unavailable{errNoVerdict}, 1},
	} {
		first, second := &certifier{verdict: v.first}, &certifier{verdict: v.second}
		sources := []Source{NewBackend(), first, second} // the backend would answer AskBackend
		got, source := First(t.Context(), sources, c)
		if !reflect.DeepEqual(got, v.want) || second.asked != v.asked || source != "sql" {
			t.Errorf("%s: %#v from %s, the second is asked %d times", name, got, source, second.asked)
		}
		if got := Recheck(t.Context(), sources, c, nil); !reflect.DeepEqual(got, v.want) {
			t.Errorf("%s, asked again: %#v", name, got)
		}
	}
	if got := Offered([]Source{NewBackend()}); strings.Join(got, " ") != "PLAIN LOGIN" {
		t.Errorf("offered: %v", got)
	}
	if v, _ := First(t.Context(), []Source{NewBackend()}, c); !reflect.DeepEqual(v, Unavailable{errNoSource}) {
		t.Errorf("without a source that can tell: %#v", v)
	}
}

func TestAPasswdFileSaysWhoMayLogInByACertificate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte("alice:{PLAIN}x::::::backend=b2\nlocked:{PLAIN}x::::::nologin\nempty:\nhome:{PLAIN}x::::::allow_nets=192.0.2.0/24\nother:{PLAIN}x::::::user=carol\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := openPasswdFile(path, PasswdFileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	in := netip.MustParseAddr("192.0.2.7")
	for name, c := range map[string]struct {
		user   string
		client netip.Addr
		want   Verdict
	}{
		"in": {"alice", in, Accepted{Placement: "b2"}}, "another name": {"other", in, Accepted{User: "carol"}},
		"locked": {"locked", in, Rejected{Reason: ReasonAccountDisabled}}, "without a password": {"empty", in, Rejected{Reason: ReasonAccountDisabled}},
		"from its network": {"home", in, Accepted{}}, "from elsewhere": {"home", netip.MustParseAddr("198.51.100.1"), Rejected{Reason: ReasonAccountDisabled}},
		"from an address that isn't known": {"home", netip.Addr{}, Rejected{Reason: ReasonAccountDisabled}}, "unknown": {"bob", in, Unknown{}},
	} {
		v := p.Certified(t.Context(), Credentials{User: c.user, Mechanism: MechanismExternal, Client: c.client})
		if a, ok := v.(Accepted); ok {
			v = Accepted{User: a.User, Placement: a.Placement}
		}
		if a, ok := c.want.(Accepted); ok {
			if got, ok := v.(Accepted); !ok || got.User != a.User || got.Placement != a.Placement {
				t.Errorf("%s: %#v", name, v)
			}
		} else if !reflect.DeepEqual(v, c.want) {
			t.Errorf("%s: %#v", name, v)
		}
	}
}

func TestHTTPIsAskedWithoutAPassword(t *testing.T) {
	var seen http.Header
	s := service(t, HTTPOptions{}, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		w.Header().Set("Auth-Status", "OK")
	})
	c := asksAsAlice
	c.Mechanism = MechanismExternal
	want(t, s.Certified(t.Context(), c), Accepted{})
	for name, value := range map[string]string{"Auth-Method": "external", "Auth-User": "alice@example.org", "Auth-Pass": "", "Auth-Ssl": "on", "Auth-Ssl-Verify": "SUCCESS"} {
		if got := seen.Values(name); len(got) != 1 || got[0] != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
}

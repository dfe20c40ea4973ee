package discovery

import (
	"testing"

	"imapproxy/routing"
)

func TestARegistrationMayRaiseTLSAndNeverLowerIt(t *testing.T) {
	names := []string{"mail.example.org", "*.imap.example.org", "10.0.0.9"}
	for _, c := range []struct {
		name          string
		policy        TLSPolicy
		tls, server   string // of the registration
		address       string
		down          bool
		wantTLS, want string
	}{
		{"nothing said, no TLS", TLSPolicy{TLS: "none"}, "", "", "", false, "", ""},
		{"raised", TLSPolicy{TLS: "none"}, "implicit", "", "", false, "implicit", ""},
		{"none where none will do", TLSPolicy{TLS: "none"}, "none", "", "", false, "none", ""},
		{"lowered", TLSPolicy{TLS: "starttls"}, "none", "", "", true, "", ""},
		{"lowered, under a name", TLSPolicy{TLS: "implicit"}, "none", "evil.example.net", "", true, "", ""},
		{"the other way of TLS", TLSPolicy{TLS: "implicit"}, "starttls", "", "", false, "starttls", ""},
		{"a name of its own", TLSPolicy{TLS: "implicit"}, "", "evil.example.net", "", true, "", ""},
		{"a name, TLS by itself", TLSPolicy{TLS: "none"}, "implicit", "evil.example.net", "", true, "implicit", ""},
		{"a name that means nothing", TLSPolicy{TLS: "none"}, "", "evil.example.net", "", false, "", "evil.example.net"},
		{"the default's name", TLSPolicy{TLS: "implicit", ServerName: "mail.example.org"}, "", "MAIL.example.org", "", false, "", "MAIL.example.org"},
		{"another than the default's", TLSPolicy{TLS: "implicit", ServerName: "mail.example.org"}, "", "evil.example.net", "", true, "", "mail.example.org"},
		{"one of the names", TLSPolicy{TLS: "implicit", ServerNames: names}, "", "mail.example.org", "", false, "", "mail.example.org"},
		{"below one of the names", TLSPolicy{TLS: "implicit", ServerNames: names}, "", "b1.imap.example.org", "", false, "", "b1.imap.example.org"},
		{"further below", TLSPolicy{TLS: "implicit", ServerNames: names}, "", "x.b1.imap.example.org", "", true, "", "mail.example.org"},
		{"the wildcard's domain", TLSPolicy{TLS: "implicit", ServerNames: names}, "", "imap.example.org", "", true, "", "mail.example.org"},
		{"an address's host", TLSPolicy{TLS: "implicit", ServerNames: names}, "", "", "evil.example.net:993", true, "", "mail.example.org"},
		{"an address's host, wildcards alone", TLSPolicy{TLS: "implicit", ServerNames: names[1:2]}, "", "", "evil.example.net:993", true, "", "*.imap.example.org"},
		{"an address's host and a name of its own", TLSPolicy{TLS: "implicit", ServerNames: names}, "", "evil.example.net", "evil.example.net:993", true, "", "mail.example.org"},
		{"a permitted host, a name of its own", TLSPolicy{TLS: "implicit", ServerNames: names}, "", "evil.example.net", "b1.imap.example.org:993", true, "", ""},
		{"lowered, at a host of its own", TLSPolicy{TLS: "implicit", ServerNames: names}, "none", "", "evil.example.net:993", true, "", "mail.example.org"},
		{"lowered, under the default's name", TLSPolicy{TLS: "implicit", ServerName: "mail.example.org"}, "none", "evil.example.net", "evil.example.net:993", true, "", "mail.example.org"},
		{"a permitted host", TLSPolicy{TLS: "implicit", ServerNames: names}, "", "", "b1.imap.example.org:993", false, "", ""},
		{"a permitted address", TLSPolicy{TLS: "implicit", ServerNames: names}, "", "", "10.0.0.9:993", false, "", ""},
		{"any host, where no names are given", TLSPolicy{TLS: "implicit"}, "", "", "b1.example.net:993", false, "", ""},
		{"any host, where the name is the default's", TLSPolicy{TLS: "implicit", ServerName: "mail.example.org", ServerNames: names}, "", "", "b1.example.net:993", false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.address == "" {
				c.address = "10.0.0.1:993"
			}
			if len(c.policy.ServerNames) > 0 && c.address == "10.0.0.1:993" && c.server == "" {
				t.Fatal("say an address")
			}
			b := routing.Backend{ID: "b1", Address: c.address, TLS: c.tls, ServerName: c.server, Weight: 60000}
			c.policy.Permit(&b)
			if (b.State == routing.Down) != c.down || c.down != (b.Reason != "") || b.TLS != c.wantTLS || b.ServerName != c.want {
				t.Errorf("%+v", b)
			}
		})
	}
}

// A fleet of one is never taken away, whatever its registration asks for: it is kept, and still
// no certificate will do but one of the permitted names.
func TestABackendThatAPanicKeepsIsReachedByThePolicy(t *testing.T) {
	policy := TLSPolicy{TLS: "implicit", ServerNames: []string{"*.imap.example.org"}}
	r, err := routing.New(routing.Options{Storage: routing.Shared})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []routing.Backend{
		{ID: "b1", Address: "b1.imap.example.org:993", Weight: 1},
		{ID: "b1", Address: "evil.example.net:993", Weight: 1},
		{ID: "b1", Address: "evil.example.net:993", Weight: 1, ServerName: "evil.example.net"},
		{ID: "b1", Address: "evil.example.net:993", Weight: 1, TLS: "none"},
	} {
		policy.Permit(&b)
		r.Apply(routing.Snapshot{Source: consulSource, Backends: []routing.Backend{b}})
		got := r.Backends()[0]
		if got.State != routing.Up || got.Kept != (got.Address == "evil.example.net:993") || got.TLS == "none" {
			t.Errorf("%+v", got)
		}
		if got.Kept && got.ServerName != policy.ServerNames[0] {
			t.Errorf("a certificate for %q will do at %s", got.ServerName, got.Address)
		}
	}
}

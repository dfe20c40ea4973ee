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
		{"further below", TLSPolicy{TLS: "implicit", ServerNames: names}, "", "x.b1.imap.example.org", "", true, "", ""},
		{"the wildcard's domain", TLSPolicy{TLS: "implicit", ServerNames: names}, "", "imap.example.org", "", true, "", ""},
		{"an address's host", TLSPolicy{TLS: "implicit", ServerNames: names}, "", "", "evil.example.net:993", true, "", ""},
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

package discovery_test

import (
	"fmt"

	"imapproxy/routing"
	"imapproxy/routing/discovery"
)

// A registration in Consul can't have passwords sent in the clear, or to a server with another name's certificate.
func ExampleTLSPolicy() {
	policy := discovery.TLSPolicy{TLS: "starttls", ServerNames: []string{"*.mail.example.org"}}
	for _, b := range []routing.Backend{
		{Address: "imap1.mail.example.org:143", State: routing.Up},
		{Address: "imap2.mail.example.org:143", State: routing.Up, TLS: "none"},
		{Address: "10.0.0.3:143", State: routing.Up, ServerName: "imap.example.net"},
	} {
		policy.Permit(&b)
		fmt.Printf("%s %q\n", b.State, b.Reason)
	}
	// Output:
	// up ""
	// down "meta tls=\"none\" is less than backend_defaults.tls=\"starttls\""
	// down "meta server_name=\"imap.example.net\" isn't in backend_defaults.server_names"
}

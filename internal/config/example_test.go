package config_test

import (
	"fmt"

	"imapproxy/internal/config"
)

// All mistakes are reported at once, each with what to write instead.
func ExampleParse() {
	_, _, err := config.Parse("imapproxy.hcl", []byte(`
listener "imaps" {
  address = "127.0.0.1:1993"
}
discovery "static" {
  backend "imap1" {
    address = "10.0.0.1"
  }
}
routing {
  storage = "elsewhere"
}
`))
	fmt.Println(err)
	// Output:
	// imapproxy.hcl:2: listener.imaps: tls = "implicit" needs a certificate; write certificate { … } with cert_file and key_file, each on a line of its own
	// imapproxy.hcl:7: discovery.static.backend.imap1.address: "10.0.0.1" isn't an address with a port from 1 to 65535; write host:port, for example "10.0.0.1:143"
	// imapproxy.hcl:11: routing.storage: "elsewhere" isn't a value of it; write one of "shared", "separate"
}

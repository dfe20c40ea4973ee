package config

import (
	"fmt"
	"strings"
)

// route checks what other programs are told of users' backends.
func (d *decoder) route(c *Config) {
	r := &c.Route
	if r.Address != "" && d.address("route.address", r.Address, 0) && len(r.Domains) == 0 && !d.failed["route.domains"] {
		d.fail(d.at("route.address"), "route.domains is missing: without it Postfix would be told that all mail, to everywhere, belongs to a backend", "write domains = [\"example.org\"], the domains whose mail the backends have")
	}
	for i, domain := range r.Domains {
		switch {
		case strings.HasPrefix(domain, "@"):
			d.fail(d.at("route.domains"), "route.domains: write the domain without @", "write %q", domain[1:])
		case domain == "" || strings.ContainsAny(domain, "@ \t*"):
			d.fail(d.at("route.domains"), fmt.Sprintf("route.domains: %q isn't a domain", domain), "write each domain whole, such as \"example.org\"")
		}
		r.Domains[i] = strings.ToLower(domain)
	}
	if r.Address == "" && len(r.Domains) > 0 {
		d.warn(d.at("route.domains"), "route.domains has no meaning without route.address", "write address = \"127.0.0.1:10143\", or remove it")
	}
}

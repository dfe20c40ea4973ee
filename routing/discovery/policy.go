package discovery

import (
	"fmt"
	"net"
	"strings"

	"imapproxy/routing"
)

// TLSPolicy restricts what a registration may set about connections to its backend. The right to write to
// Consul's catalogue must not give access to passwords: a registration can't have them sent in the clear, or
// to a server with another name's certificate.
type TLSPolicy struct {
	// TLS is backend_defaults.tls, the minimum: unless it is "none" (or empty), a registration can't switch
	// TLS off. "starttls" and "implicit" count as equal, since both verify the certificate and neither
	// continues without TLS.
	TLS string
	// ServerName is the name in certificates if a registration sets none. "": the host of its address.
	ServerName string
	// ServerNames are the names that a registration may set, and that its address may have as host: exact
	// names, or *.example.org for all names with one more label. Empty: a registration may set no name, and
	// any host.
	ServerNames []string
}

// Permit makes a backend whose registration violates the policy Down, with the reason, and replaces its
// settings by the policy's, which hold if the row is used nevertheless (the panic threshold keeps backends).
func (p TLSPolicy) Permit(b *routing.Backend) {
	clear := func(tls string) bool { return tls == "" || tls == "none" }
	switch {
	case b.TLS == "none" && !clear(p.TLS):
		b.State, b.Reason = routing.Down, fmt.Sprintf("meta tls=%q is less than backend_defaults.tls=%q", b.TLS, p.TLS)
		b.TLS, b.ServerName = "", p.nameFor(b.Address)
		return
	case clear(b.TLS) && clear(p.TLS):
		return // without TLS there is no certificate
	}
	if b.ServerName != "" && !p.named(b.ServerName) {
		b.State, b.Reason = routing.Down, fmt.Sprintf("meta server_name=%q isn't in backend_defaults.server_names", clip(b.ServerName, 80))
		b.ServerName = p.nameFor(b.Address)
		return
	}
	if b.ServerName != "" {
		return
	}
	if name := p.nameFor(b.Address); name != p.ServerName {
		host, _, _ := net.SplitHostPort(b.Address) // nameFor has split it
		b.State, b.Reason = routing.Down, fmt.Sprintf("the address's host %q isn't in backend_defaults.server_names", clip(host, 80))
		b.ServerName = name
	}
}

// nameFor returns the certificate name for a registration that may set none: the default's; "" for the
// address's host if that is permitted; otherwise one of the permitted names. A wildcard isn't a host name:
// only a certificate with the same wildcard has it.
func (p TLSPolicy) nameFor(address string) string {
	if p.ServerName != "" || len(p.ServerNames) == 0 {
		return p.ServerName
	}
	if host, _, err := net.SplitHostPort(address); err != nil || p.named(host) {
		return ""
	}
	return p.ServerNames[0]
}

// named says whether a certificate's name is permitted.
func (p TLSPolicy) named(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if p.ServerName != "" && strings.EqualFold(name, p.ServerName) {
		return true
	}
	for _, n := range p.ServerNames {
		if domain, wild := strings.CutPrefix(n, "*."); wild {
			_, rest, found := strings.Cut(name, ".")
			if found && strings.EqualFold(rest, domain) && !strings.HasPrefix(name, ".") {
				return true
			}
		} else if strings.EqualFold(name, n) {
			return true
		}
	}
	return false
}

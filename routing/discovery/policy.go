package discovery

import (
	"fmt"
	"net"
	"strings"

	"imapproxy/routing"
)

// TLSPolicy limits what a registration may set about connections to its backend. The right to
// write to Consul's catalogue mustn't give access to passwords: a registration can't have them
// sent in the clear, or to a server with another name's certificate.
type TLSPolicy struct {
	// TLS is backend_defaults.tls, the least: where it isn't "none" (or empty), a registration
	// can't switch it off. "starttls" and "implicit" are worth the same, since either verifies the
	// certificate and neither goes on without.
	TLS string
	// ServerName is the name that certificates must have where a registration names none. "": the
	// host of its address.
	ServerName string
	// ServerNames are the names that a registration may name, and that an address may have as host: as
	// they are, or *.example.org for all of one more label. Empty: it may name none, and any host.
	ServerNames []string
}

// Permit has a backend that asks for less be down, with the reason, and takes back what it asked
// for: if the row is used in spite of that (a panic keeps backends), then by the policy.
func (p TLSPolicy) Permit(b *routing.Backend) {
	clear := func(tls string) bool { return tls == "" || tls == "none" }
	switch {
	case b.TLS == "none" && !clear(p.TLS):
		b.State, b.Reason = routing.Down, fmt.Sprintf("meta tls=%q is less than backend_defaults.tls=%q", b.TLS, p.TLS)
		b.TLS, b.ServerName = "", p.nameFor(b.Address)
		return
	case clear(b.TLS) && clear(p.TLS):
		return // there is no certificate to have a name
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

// nameFor is the name that the certificate of a registration must have which may name none: the
// default's, "" for the address's host where that is permitted, else one of the permitted names. A
// wildcard among those is no host's name: only a certificate with that very wildcard has it.
func (p TLSPolicy) nameFor(address string) string {
	if p.ServerName != "" || len(p.ServerNames) == 0 {
		return p.ServerName
	}
	if host, _, err := net.SplitHostPort(address); err != nil || p.named(host) {
		return ""
	}
	return p.ServerNames[0]
}

// named says whether a certificate's name is one of the permitted.
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

package session

import (
	"slices"
	"strings"

	"imapproxy/internal/fair"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// offers says whether a source can do a mechanism, whose case doesn't count.
func (p *preLogin) offers(mechanism string) bool {
	return slices.Contains(p.offered(), strings.ToUpper(mechanism))
}

// offered returns the mechanisms that the sources can do over the client's connection.
func (p *preLogin) offered() []string {
	set := p.env.Settings()
	return slices.DeleteFunc(auth.Offered(set.Sources), func(m string) bool {
		if m == auth.MechanismExternal {
			return p.certificate() != nil || set.Login.Mode != upstream.ModeMaster
		}
		return auth.Binds(m) && p.client.TLS() == nil
	})
}

// bindings are what the client can prove about its TLS connection. They are none where the proxy doesn't end TLS.
func (p *preLogin) bindings() (b auth.Bindings) {
	state := p.client.TLS()
	if state == nil {
		return b
	}
	if set := p.lis.Settings(); set.EndPoints != nil {
		b.EndPoints = set.EndPoints()
	}
	// RFC 9266 §4.2: not with TLS 1.2 without its extended master secret. Then it is an error, and there is none.
	b.Exporter, _ = state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	return b
}

// mayBeLarge returns by which factor a line may be longer than others: largeFactor for an ID and for a token with
// a slot, otherwise 1.
func (p *preLogin) mayBeLarge(sofar []byte) int {
	h := wire.ParseCommandHead(wire.FirstLine(sofar))
	name, _, _ := cutArgs(h.Args)
	if !p.exchanging && h.Verb != wire.ID && (h.Verb != wire.Authenticate || !auth.OfToken(strings.ToUpper(name)) || !p.offers(name)) {
		return 1
	}
	if network := fair.Network(p.addr.Addr()); p.large == nil && p.env.Places.large.TryAcquire(network) {
		p.large = &network
	}
	if p.large == nil {
		return 1
	}
	return largeFactor
}

// noLongerLarge gives the slot back.
func (p *preLogin) noLongerLarge() {
	if p.large != nil {
		p.env.Places.large.Release(*p.large)
		p.large = nil
	}
}

// cutArgs splits the arguments of AUTHENTICATE.
func cutArgs(args []byte) (name string, initial []byte, has bool) {
	for i, c := range args {
		if c == ' ' {
			return string(args[:i]), args[i+1:], true
		}
	}
	return string(args), nil, false
}

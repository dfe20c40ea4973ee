package session

import (
	"slices"
	"strings"

	"imapproxy/internal/fair"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/wire"
)

// offers says whether a source can do a mechanism, whose case doesn't count.
func (p *preLogin) offers(mechanism string) bool {
	return slices.Contains(auth.Offered(p.env.Settings().Sources), strings.ToUpper(mechanism))
}

// mayBeLarge returns by which factor a line may be longer than others: largeFactor for an ID and for a token with
// a slot, otherwise 1.
func (p *preLogin) mayBeLarge(sofar []byte) int {
	h := wire.ParseCommandHead(wire.FirstLine(sofar))
	name, _, _ := cutArgs(h.Args)
	if !p.exchanging && h.Verb != wire.ID && (h.Verb != wire.Authenticate || !auth.OfToken(strings.ToUpper(name)) || !p.offers(name)) {
		return 1
	}
	p.large = p.large || p.env.Places.large.TryAcquire(fair.Network(p.addr.Addr()))
	if !p.large {
		return 1
	}
	return largeFactor
}

// noLongerLarge gives the slot back.
func (p *preLogin) noLongerLarge() {
	if p.large {
		p.large = false
		p.env.Places.large.Release(fair.Network(p.addr.Addr()))
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

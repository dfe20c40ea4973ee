package fair

import "net/netip"

// Network returns the network that probably belongs to the owner of an address alone: the /24 of an IPv4
// address, the /56 of an IPv6 one. IPv4 within IPv6 counts as IPv4. The zero Prefix stands for an invalid
// address.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 56
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// In says whether an address is in one of the networks. IPv4 within IPv6 counts as IPv4.
func In(networks []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

package config

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// bound is an address to listen on and its setting.
type bound struct{ path, address string }

// addressesTwice reports addresses that can't both be bound. Without this check the second one would fail at
// the start, or at the next restart.
func (d *decoder) addressesTwice(c *Config) {
	var all []bound
	for _, l := range c.Listeners {
		all = append(all, bound{"listener." + l.Name + ".address", l.Address})
	}
	all = append(all, bound{"admin.address", c.Admin.Address}, bound{"park.events.address", c.Park.Events.Address}, bound{"route.address", c.Route.Address})
	for i, b := range all {
		if b.address == "" || d.failed[b.path] {
			continue
		}
		for _, before := range all[:i] {
			if d.failed[before.path] || !overlap(before.address, b.address) {
				continue
			}
			instead := "write another port, or another host"
			if b.path == "park.events.address" && before.path == "admin.address" {
				instead = "remove it: events then come to the admin address; or write another port"
			}
			if !d.written(b.path) { // a default, admin's: what was written is in its way
				d.fail(d.at(before.path), fmt.Sprintf("%s: %s is %s, by default", before.path, before.address, b.path), "%s, or another %s", instead, b.path)
				break
			}
			d.fail(d.at(b.path), fmt.Sprintf("%s: %s is taken by %s%s", b.path, b.address, before.path, d.besides(before, b)), "%s", instead)
			break
		}
	}
}

// besides describes the other setting's place, and its text if that differs.
func (d *decoder) besides(before, b bound) string {
	var parts []string
	if before.address != b.address {
		parts = append(parts, before.address)
	}
	if r, ok := d.ranges[before.path]; ok {
		parts = append(parts, fmt.Sprintf("line %d", r.Start.Line))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// overlap reports whether two addresses can't be listened on at the same time: the
// ports are the same, and
//
//	one host is all addresses of the machine ("" or ::, IPv4 too)   they overlap
//	one is 0.0.0.0, the other 0.0.0.0 or an IPv4 address or a name  they overlap
//	they are the same address or name (localhost is 127.0.0.1)      they overlap
//	the port is 0                                                   never: each gets its own
func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	ipA, ipB := listenAddr(hostA), listenAddr(hostB)
	for range 2 {
		switch {
		case hostA == "", ipA == netip.IPv6Unspecified():
			return true
		case ipA == netip.IPv4Unspecified() && (ipB.Is4() || !ipB.IsValid()):
			return true
		}
		hostA, hostB, ipA, ipB = hostB, hostA, ipB, ipA
	}
	if ipA.IsValid() || ipB.IsValid() {
		return ipA == ipB
	}
	return strings.EqualFold(hostA, hostB)
}

// listenAddr returns the IP address of a host that is an address or localhost.
func listenAddr(host string) netip.Addr {
	if strings.EqualFold(host, "localhost") {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return ip.Unmap()
}

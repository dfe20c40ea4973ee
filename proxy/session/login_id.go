package session

import (
	"net/netip"
	"strconv"
	"strings"

	"imapproxy/proxy/wire"
)

// defaultTTL is how many proxies a login may pass if no proxy before this one has said so (ID x-proxy-ttl, as
// Dovecot's proxies count).
const defaultTTL = 5

// id answers ID before login (RFC 2971) in the proxy's own name: an intermediary must not pose as the server
// behind it. After login ID is relayed.
func (p *preLogin) id(tag string, args []byte) error {
	fields, ok := parseID(args)
	if !ok {
		return p.bad(tag, "ID takes NIL or a list of strings, fields of up to 30 octets and values of up to 1024")
	}
	named := map[string]string{}
	for i := 0; i+1 < len(fields); i += 2 {
		named[strings.ToLower(fields[i])] = fields[i+1]
	}
	if n, err := strconv.Atoi(named["x-proxy-ttl"]); err == nil {
		p.ttl = p.believedTTL(n)
	}
	if p.set.Policy != nil {
		p.device = device(fields)
	}
	if p.lis.trusts(p.peer.Addr()) {
		if err := p.speaksFor(named); err != nil {
			return err
		}
	}
	line := []byte(`* ID ("name" "imapproxy" "version" `)
	line = append(wire.AppendQuoted(line, p.set.Version), ")\r\n"...)
	return p.say(string(line) + tag + " OK ID completed\r\n")
}

// speaksFor takes the addresses that a trusted proxy or webmail names as the client's, as Dovecot does: the client's own
// (x-originating-ip, x-originating-port) and the one that it has connected to (x-connected-ip, x-connected-port). From then on
// limits, delays, logs and the backend go by them. The last ID counts. An address that isn't one is ignored.
func (p *preLogin) speaksFor(named map[string]string) error {
	if local, ok := namedAddr(named, "x-connected"); ok {
		p.local = local
	}
	addr, ok := namedAddr(named, "x-originating")
	if !ok {
		return nil
	}
	if over := p.env.Registry.moveAddr(p.addr.Addr(), addr.Addr(), p.set.Limits); over != "" {
		p.env.Telemetry.Refused(over)
		return &endError{reason: ReasonLimit}
	}
	p.addr = addr
	return nil
}

// speaksForItself forgets what ID has said of another client.
func (p *preLogin) speaksForItself() {
	p.env.Registry.moveAddr(p.addr.Addr(), p.peer.Addr(), Limits{}) // it was admitted before
	p.addr, p.local, p.device = p.peer, p.direct, ""
}

// namedAddr returns the address in an ID's prefix-ip and prefix-port. A port may be missing.
func namedAddr(named map[string]string, prefix string) (netip.AddrPort, bool) {
	ip, err := netip.ParseAddr(named[prefix+"-ip"])
	ip = ip.Unmap()
	if err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
		return netip.AddrPort{}, false
	}
	port, _ := strconv.ParseUint(named[prefix+"-port"], 10, 16) // 0 if it isn't one
	return netip.AddrPortFrom(ip, uint16(port)), true
}

// Bounds of ID's strings (RFC 2971 §3.3).
const (
	maxIDField = 30
	maxIDValue = 1024
)

// parseID parses ID's argument: NIL, or a list of fields and values, in which a value may be NIL (RFC 2971
// §3.3). Like Dovecot it takes a missing argument for NIL, and accepts a last field without a value and more
// than 30 pairs.
func parseID(args []byte) (fields []string, ok bool) {
	s := strings.TrimSpace(string(args))
	if s == "" || strings.EqualFold(s, "NIL") {
		return nil, true
	}
	if len(s) < 2 || s[0] != '(' || s[len(s)-1] != ')' {
		return nil, false
	}
	rest := []byte(strings.TrimSpace(s[1 : len(s)-1]))
	for len(rest) > 0 {
		first := rest[0]
		f, after, err := wire.LoginString(rest)
		value := len(fields)%2 == 1
		switch {
		case err != nil, value && len(f) > maxIDValue, !value && len(f) > maxIDField:
			return nil, false
		case first != '"' && first != '{' && !(value && strings.EqualFold(f, "NIL")):
			return nil, false
		}
		fields, rest = append(fields, f), after
	}
	return fields, true
}

// maxTTL is the largest x-proxy-ttl that is accepted from any client.
const maxTTL = 255

// believedTTL returns what an x-proxy-ttl counts for. A client that isn't a trusted proxy can't make a loop
// longer; it may make one shorter, as this proxy itself does if it is its own backend, which ends the loop. A
// value below 1 counts as used up.
func (p *preLogin) believedTTL(said int) int {
	most := defaultTTL
	if p.lis.trusts(p.peer.Addr()) {
		most = maxTTL
	}
	return max(1, min(said, most))
}

// nextTTL returns the x-proxy-ttl for the backend; false says that the login has passed too many proxies,
// which is a loop.
func (p *preLogin) nextTTL() (int, bool) {
	if p.ttl == 0 {
		return defaultTTL, true
	}
	return p.ttl - 1, p.ttl > 1
}

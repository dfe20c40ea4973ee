package session

import (
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
	for i := 0; i+1 < len(fields); i += 2 {
		if strings.EqualFold(fields[i], "x-proxy-ttl") {
			if n, err := strconv.Atoi(fields[i+1]); err == nil {
				p.ttl = p.believedTTL(n)
			}
		}
	}
	line := []byte(`* ID ("name" "imapproxy" "version" `)
	line = append(wire.AppendQuoted(line, p.set.Version), ")\r\n"...)
	return p.say(string(line) + tag + " OK ID completed\r\n")
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
	if p.lis.trusts(p.addr.Addr()) {
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

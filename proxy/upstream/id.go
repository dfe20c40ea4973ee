package upstream

import (
	"net/netip"
	"strconv"
	"strings"

	"imapproxy/proxy/wire"
)

// RFC 2971 §3.3: limits on ID. The number of fields (30) can't be reached here.
const (
	maxIDKey   = 30
	maxIDValue = 1024
)

// idCommand returns the ID command that tells a backend about the client. The x- fields are Dovecot's; it
// uses them only from login_trusted_networks; other servers ignore or log them.
func idCommand(hostname string, c Client) string {
	b := []byte("ID (")
	b = appendIDField(b, "name", "imapproxy")
	b = appendIDField(b, "x-proxy-host", hostname)
	b = appendIDAddr(b, "x-originating", c.Addr)
	b = appendIDAddr(b, "x-connected", c.LocalAddr)
	b = appendIDField(b, "x-session-id", c.SessionID)
	if c.ProxyTTL > 0 {
		b = appendIDField(b, "x-proxy-ttl", strconv.Itoa(c.ProxyTTL))
	}
	return string(append(b, ")\r\n"...))
}

// appendIDAddr appends prefix-ip and prefix-port. An IPv4 address that came in through an IPv6 socket is
// written as IPv4, and a zone is omitted, since it has no meaning on another machine.
func appendIDAddr(b []byte, prefix string, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return b
	}
	b = appendIDField(b, prefix+"-ip", a.Addr().Unmap().WithZone("").String())
	return appendIDField(b, prefix+"-port", strconv.Itoa(int(a.Port())))
}

// appendIDField appends one field. A value must be a quoted string of 7-bit text: other characters become
// '?', and a long value is cut. An empty value is omitted.
func appendIDField(b []byte, key, value string) []byte {
	if value == "" || len(key) > maxIDKey {
		return b
	}
	value = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, value)
	if len(value) > maxIDValue {
		value = value[:maxIDValue]
	}
	if b[len(b)-1] != '(' {
		b = append(b, ' ')
	}
	b = wire.AppendQuoted(b, key)
	b = append(b, ' ')
	return wire.AppendQuoted(b, value)
}

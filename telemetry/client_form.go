package telemetry

import (
	"fmt"
	"log/slog"
	"net/netip"
)

// lineAttr is redactAttr with clients' addresses in their one form.
func lineAttr(groups []string, a slog.Attr) slog.Attr { return clientForm(redactAttr(groups, a)) }

// clientForm writes a client's address and port in the form that all lines have: client=ADDRESS port=PORT, as the line of a failed login that
// programs read. It returns them as a group without a name, which handlers write inline. An IPv4 client of an IPv6 socket is one client.
func clientForm(a slog.Attr) slog.Attr {
	if a.Key != "client" {
		return a
	}
	text := ""
	switch v := a.Value.Any().(type) {
	case string:
		text = v
	case fmt.Stringer:
		text = v.String()
	}
	from, err := netip.ParseAddrPort(text)
	if err != nil {
		return a
	}
	return slog.Attr{Value: slog.GroupValue(slog.String(a.Key, address(text)), slog.Int("port", int(from.Port())))}
}

package discovery

import (
	"net/netip"
	"strings"
)

// isHost says whether a text can be dialled: an IP address, perhaps with a zone, or a name.
func isHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host != "" && !strings.ContainsAny(host, ":[]/@ \t\r\n\x00")
}

package wiring

import (
	"net/netip"
	"os"
	"strings"
	"time"

	"imapproxy/internal/config"
	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// None returns a duration for a package in which 0 means the default: the configuration's 0, which means 0,
// becomes -1.
func None(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// Names returns the options by which a client's name for a user becomes the canonical name.
func Names(c *config.Config) auth.Names {
	return auth.Names{DefaultDomain: c.Users.DefaultDomain, Lowercase: c.Users.Lowercase, RefuseSeparators: c.Users.RefuseSeparators}
}

// Secret reads a file that holds one secret, and perhaps a line break. Its errors name the
// file and never show the content.
func Secret(path string) (telemetry.Secret, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", badSecret{path, "is empty"}
	}
	if strings.ContainsAny(secret, "\r\n\x00") {
		return "", badSecret{path, "has more than one line"}
	}
	return telemetry.Secret(secret), nil
}

// sourceAddresses reads what config has checked already.
func sourceAddresses(c *config.Config) []netip.Addr {
	var all []netip.Addr
	for _, a := range c.BackendDefaults.SourceAddresses {
		if ip, err := netip.ParseAddr(a); err == nil {
			all = append(all, ip)
		}
	}
	return all
}

package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"sync"
)

// maxTLSConfigs bounds the cache below. A fleet has fewer backends; where
// addresses come and go all the time it starts anew.
const maxTLSConfigs = 1024

// tlsConfigs holds a TLS configuration per backend, for its session tickets: a
// resumed handshake saves the backend the signature. A ticket is of use to the
// server that gave it only, so backends that share a server name don't share a
// cache. What was verified by a full handshake stays tied to the configuration:
// Go checks server name and expiry again when it resumes.
type tlsConfigs struct {
	base *tls.Config

	mu       sync.Mutex // guards byTarget
	byTarget map[tlsKey]*tls.Config
}

type tlsKey struct{ address, serverName string }

func newTLSConfigs(base *tls.Config, caFile string) (*tlsConfigs, error) {
	if base == nil {
		base = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	base = base.Clone()
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("backends' ca_file: %w", err)
		}
		base.RootCAs = x509.NewCertPool()
		if !base.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("backends' ca_file %s: no PEM certificate in it", caFile)
		}
	}
	return &tlsConfigs{base: base, byTarget: make(map[tlsKey]*tls.Config)}, nil
}

// forTarget gives the configuration for a backend: its certificate must be
// valid for Target.ServerName, else for the host of its address, name or IP.
func (c *tlsConfigs) forTarget(t Target) *tls.Config {
	name := t.ServerName
	if name == "" {
		name, _, _ = net.SplitHostPort(t.Address) // checked before dialling
	}
	key := tlsKey{t.Address, name}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cfg := c.byTarget[key]; cfg != nil {
		return cfg
	}
	cfg := c.base.Clone()
	cfg.ServerName = name
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	if len(c.byTarget) >= maxTLSConfigs {
		clear(c.byTarget)
	}
	c.byTarget[key] = cfg
	return cfg
}

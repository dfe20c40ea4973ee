package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"sync"
)

// maxTLSConfigs bounds the cache below. A fleet has fewer backends; if addresses change all the time, the
// cache is cleared.
const maxTLSConfigs = 1024

// tlsConfigs has a TLS configuration per backend, for its session tickets: a resumed handshake saves the
// backend the signature. Only the server that issued a ticket can use it, so backends that share a server
// name don't share a cache. The result of a full handshake's verification stays tied to the configuration: Go
// checks server name and expiry again at a resumption.
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

// forTarget returns the configuration for a backend: its certificate must be valid for Target.ServerName,
// otherwise for the host of its address, name or IP.
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

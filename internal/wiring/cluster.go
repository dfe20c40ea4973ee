package wiring

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"imapproxy/internal/config"
	"imapproxy/internal/peers"
	"imapproxy/routing/discovery"
)

// Peers returns the options of requests to the other proxies, without the id of this process. The token is ""
// without a cluster block.
func Peers(c *config.Config) (o peers.Options, err error) {
	k := c.Cluster
	if k == nil {
		return o, nil
	}
	o.Within = k.AskWithin
	path, setting := k.TokenFile, "cluster.token_file"
	if path == "" {
		path, setting = c.Admin.TokenFile, "admin.token_file"
	}
	if o.Token, err = Secret(path); err != nil {
		return o, About(setting, err)
	}
	if !k.TLS {
		return o, nil
	}
	o.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: k.ServerName}
	if k.CAFile == "" {
		return o, nil
	}
	text, err := os.ReadFile(k.CAFile)
	if err != nil {
		return o, About("cluster.ca_file", err)
	}
	o.TLS.RootCAs = x509.NewCertPool()
	if !o.TLS.RootCAs.AppendCertsFromPEM(text) {
		return o, About("cluster.ca_file", fmt.Errorf("%s holds no certificate", k.CAFile))
	}
	return o, nil
}

// Named returns the peers that the configuration lists; if there are any, none are looked for in Consul.
func Named(c *config.Config) (all []peers.Peer) {
	if c.Cluster == nil {
		return nil
	}
	for _, address := range c.Cluster.Peers {
		all = append(all, peers.Peer{Name: address, Address: address})
	}
	return all
}

// Proxies returns the options of the search for other proxies in Consul; nil: there is no search.
func Proxies(c *config.Config) *discovery.ConsulOptions {
	if c.Cluster == nil || len(c.Cluster.Peers) > 0 || c.Discovery.Consul == nil {
		return nil
	}
	o := Consul(c.Discovery.Consul)
	o.Service = c.Cluster.Service
	return &o
}

// AdminCertificate reads the certificate of the admin API; nil: it has none.
func AdminCertificate(c *config.Config) (*tls.Certificate, error) {
	if c.Admin.CertFile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.Admin.CertFile, c.Admin.KeyFile)
	return &pair, About("admin.cert_file", err)
}

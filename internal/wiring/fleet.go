package wiring

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"imapproxy/internal/config"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/discovery"
	"imapproxy/telemetry"
)

// Consul returns the options of discovery in Consul: how it is reached, and the service.
func Consul(c *config.Consul) discovery.ConsulOptions {
	return discovery.ConsulOptions{
		Address: c.Address, Service: c.Service, Tags: c.Tags, Datacenter: c.Datacenter,
		Namespace: c.Namespace, Partition: c.Partition, TokenFile: c.TokenFile,
		CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, CacheFile: c.CacheFile,
	}
}

// Fleet returns the options by which backends are found in Consul.
func Fleet(c *config.Config) discovery.ConsulOptions {
	o, b := Consul(c.Discovery.Consul), c.BackendDefaults
	o.Policy = discovery.TLSPolicy{TLS: b.TLS, ServerName: b.ServerName, ServerNames: b.ServerNames}
	return o
}

// Backends returns the configured backends, which haven't been probed.
func Backends(c *config.Static) []routing.Backend {
	var all []routing.Backend
	for _, b := range c.Backends {
		all = append(all, routing.Backend{ID: b.ID, Address: b.Address, Weight: b.Weight, Tags: b.Tags, TLS: b.TLS, ServerName: b.ServerName, SendProxy: b.SendProxy})
	}
	return all
}

// Source makes the source of backends. It doesn't contact any server yet. room knows which
// failures of a probe are no evidence against a backend. listed is told the capabilities before login that a probe has read.
func Source(c *config.Config, tel *telemetry.Telemetry, room *upstream.Room, listed func(backend, capabilities string)) (discovery.Source, error) {
	if c.Discovery.Consul != nil {
		return discovery.NewConsul(Fleet(c), tel)
	}
	o := Static(c, tel)
	var err error
	if o.Probe.TLSConfig, err = backendTLS(c); err != nil {
		return nil, err
	}
	sources, err := upstream.NewSources(sourceAddresses(c))
	if err != nil {
		return nil, About("backend_defaults.source_addresses", err)
	}
	o.Probe.Dial = sources.DialContext
	o.Probe.Excuse = func(backend string, err error) bool {
		if of := upstream.ShortageOf(err); of != "" {
			tel.Shortage(of, telemetry.ShortageAtProbe, err)
		}
		return room.Excuses(backend, err)
	}
	o.Probe.Answered = func(backend, capabilities string) {
		room.Answered(backend)
		listed(backend, capabilities)
	}
	return discovery.NewStatic(o)
}

// FleetFiles returns a digest of the files that Source and Register read once. If it has changed, what they
// have made uses outdated certificates, keys or tokens.
func FleetFiles(c *config.Config) [sha256.Size]byte {
	var paths []string
	if d := c.Discovery.Consul; d != nil {
		paths = []string{d.CAFile, d.CertFile, d.KeyFile, d.TokenFile}
	} else {
		paths = []string{c.BackendDefaults.CAFile}
	}
	return digestOf(paths)
}

// Static returns the configured backends and the options of their probes, except what Source adds to the
// probes.
func Static(c *config.Config, tel *telemetry.Telemetry) discovery.StaticOptions {
	probe := c.Discovery.Static.Probe
	return discovery.StaticOptions{
		Backends: Backends(c.Discovery.Static), Telemetry: tel,
		Probe: discovery.ProbeOptions{
			Interval: probe.Interval, Timeout: probe.Timeout, Rise: probe.Rise, Fall: probe.Fall,
			DefaultTLS: c.BackendDefaults.TLS, ServerName: c.BackendDefaults.ServerName, DefaultSendProxy: c.BackendDefaults.SendProxy,
		},
	}
}

// backendTLS returns the settings that verify backends' certificates; nil: the system's authorities.
func backendTLS(c *config.Config) (*tls.Config, error) {
	authorities, err := roots(c.BackendDefaults.CAFile)
	if authorities == nil {
		return nil, About("backend_defaults.ca_file", err)
	}
	return &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}, nil
}

// Register returns the options of the proxy's entry in Consul. bound are the listeners' addresses by name,
// used if the configuration has no address; admin is the admin API's address.
func Register(c *config.Config, bound map[string]string, admin string, tel *telemetry.Telemetry) (discovery.RegisterOptions, error) {
	o := discovery.RegisterOptions{Service: c.Register.Service, Tags: c.Register.Tags, Meta: adminMeta(c, admin),
		DeregisterAfter: c.Register.DeregisterAfter, Telemetry: tel}
	if c.Discovery.Consul != nil {
		o.Consul = Consul(c.Discovery.Consul)
	}
	address := c.Register.Address
	if address == "" {
		address = bound[c.Listeners[0].Name]
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return o, fmt.Errorf("register.address: %w", err)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "" // the agent's node's
	}
	o.Address = host
	o.Port, err = strconv.Atoi(port)
	return o, err
}

// adminMeta is what a registration says of where the admin API is, bound to an address: others ask it
// there. Where it is bound to all addresses they take the service's. An address that is configured
// for it is said in any case.
func adminMeta(c *config.Config, bound string) map[string]string {
	if c.Register != nil && c.Register.AdminAddress != "" {
		return map[string]string{discovery.MetaAdmin: c.Register.AdminAddress}
	}
	host, port, err := net.SplitHostPort(bound)
	if c.Cluster == nil || err != nil {
		return nil
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = ""
	}
	return map[string]string{discovery.MetaAdmin: net.JoinHostPort(host, port)}
}

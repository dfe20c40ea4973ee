package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"imapproxy/internal/config"
	"imapproxy/proxy"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/discovery"
	"imapproxy/telemetry"
)

// This file maps the configuration to each room's Options, and nothing else: no
// room knows config, config knows no room.

// none says 0 to rooms for which the zero value is the default.
func none(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func telemetryOptions(c *config.Config, level slog.Leveler, logs io.Writer) telemetry.Options {
	t := c.Telemetry
	return telemetry.Options{
		Service: "imapproxy", Instance: c.Hostname, Version: version(),
		LogWriter: logs, LogFile: t.Log.File, LogFormat: t.Log.Format, LogLevel: level,
		TracesEndpoint: t.Traces.Endpoint, TracesHeaders: t.Traces.Headers,
		SampleRatio: float64(t.Traces.Sample), SlowCommand: none(t.Traces.Slow),
		MetricsEndpoint: t.Metrics.Endpoint, MetricsHeaders: t.Metrics.Headers, MetricsInterval: t.Metrics.Interval,
		Prometheus: t.Metrics.Prometheus && c.Admin.Address != "", // nobody could read it
	}
}

// logLevel reads what config has checked already.
func logLevel(c *config.Config) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Telemetry.Log.Level)); err != nil {
		return slog.LevelInfo
	}
	return level
}

func routingOptions(c *config.Config, tel *telemetry.Telemetry) (routing.Options, error) {
	storage, err := routing.ParseStorage(c.Routing.Storage)
	return routing.Options{
		Storage: storage, PinGrace: none(c.Routing.PinGrace), FailoverAfter: none(c.Routing.FailoverAfter),
		PanicThreshold: float64(c.Routing.PanicThreshold), Telemetry: tel,
	}, err
}

func names(c *config.Config) auth.Names {
	return auth.Names{DefaultDomain: c.Users.DefaultDomain, Lowercase: c.Users.Lowercase, RefuseSeparators: c.Users.RefuseSeparators}
}

// newSources opens the credential sources. The caller closes them.
func newSources(c *config.Config, log *slog.Logger) ([]auth.Source, error) {
	if err := names(c).Validate(); err != nil {
		return nil, about("users.default_domain", err)
	}
	hashing := auth.NewHashing(0)
	var sources []auth.Source
	for _, a := range c.Auth {
		switch {
		case a.Backend != nil:
			sources = append(sources, auth.NewBackend())
		case a.PasswdFile != nil:
			source, err := auth.NewPasswdFile(a.PasswdFile.Path, auth.PasswdFileOptions{Names: names(c), Log: log, Hashing: hashing})
			if err != nil {
				closeSources(sources)
				return nil, about("auth.passwd_file.path", err)
			}
			sources = append(sources, source)
		}
	}
	return sources, nil
}

func closeSources(sources []auth.Source) {
	for _, s := range sources {
		_ = s.Close() // there is nothing left that it could lose
	}
}

func upstreamOptions(c *config.Config, tel *telemetry.Telemetry) upstream.Options {
	b := c.BackendDefaults
	return upstream.Options{
		Hostname: c.Hostname, ConnectTimeout: b.ConnectTimeout, LoginTimeout: b.LoginTimeout,
		CAFile: b.CAFile, SourceAddresses: sourceAddresses(c), CleartextMaster: c.BackendLogin.Cleartext, Telemetry: tel,
	}
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

func roomOptions(c *config.Config) upstream.RoomOptions {
	return upstream.RoomOptions{Connections: c.Park.BackendConnections}
}

// backendLogin reads the master's password, where there is one.
func backendLogin(c *config.Config) (upstream.Auth, error) {
	if c.BackendLogin.Mode != upstream.ModeMaster {
		return upstream.Auth{Mode: upstream.ModeUser}, nil
	}
	password, err := readSecret(c.BackendLogin.PasswordFile)
	return upstream.Auth{Mode: upstream.ModeMaster, MasterUser: c.BackendLogin.Username, MasterPassword: password}, err
}

// readSecret reads a file that holds a secret and a line break, perhaps.
func readSecret(path string) (telemetry.Secret, error) {
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

// listenerOptions maps the listeners. own is for those with TLS that the
// configuration gives no certificate: config refuses them, only dev has them.
func listenerOptions(c *config.Config, own *proxy.Certificate) []proxy.ListenerOptions {
	var all []proxy.ListenerOptions
	for _, l := range c.Listeners {
		o := proxy.ListenerOptions{Name: l.Name, Address: l.Address, TLS: l.TLS, CleartextFrom: l.CleartextFrom,
			TrustedProxies: l.TrustedProxies, MinVersion: tls.VersionTLS12}
		if l.MinVersion == "1.3" {
			o.MinVersion = tls.VersionTLS13
		}
		for _, cert := range l.Certificates {
			o.Certificates = append(o.Certificates, proxy.Certificate{CertFile: cert.CertFile, KeyFile: cert.KeyFile})
		}
		if len(o.Certificates) == 0 && l.TLS != proxy.TLSNone && own != nil {
			o.Certificates = []proxy.Certificate{*own}
		}
		if l.ProxyProtocol != nil {
			o.ProxyTrusted = l.ProxyProtocol.Trusted
		}
		all = append(all, o)
	}
	return all
}

// proxyOptions is what the configuration says by itself; the rooms are the
// instance's.
func proxyOptions(c *config.Config, own *proxy.Certificate) proxy.Options {
	return proxy.Options{
		Hostname: c.Hostname, Version: version(), Listeners: listenerOptions(c, own), Names: names(c),
		BackendTLS: c.BackendDefaults.TLS, BackendServerName: c.BackendDefaults.ServerName,
		Limits: limits(c), Drain: none(c.Shutdown.Drain), Recheck: none(c.Users.Recheck),
	}
}

func limits(c *config.Config) proxy.Limits {
	l := c.Limits
	return proxy.Limits{
		Connections: l.Connections, Prelogin: l.Prelogin, Descriptors: descriptors(), PerIP: l.PerIP, PerUser: l.PerUser, UnprovedLogins: l.UnprovedLogins,
		PreloginTimeout: l.PreloginTimeout, IdleTimeout: l.IdleTimeout, AuthFailureDelay: none(l.AuthFailureDelay),
	}
}

// target is a backend as upstream dials it: what discovery says, else the defaults.
func target(c *config.Config, b routing.Backend) upstream.Target {
	t := upstream.Target{ID: b.ID, Address: b.Address, TLS: b.TLS, ServerName: b.ServerName}
	if t.TLS == "" {
		t.TLS = c.BackendDefaults.TLS
	}
	if t.ServerName == "" {
		t.ServerName = c.BackendDefaults.ServerName
	}
	return t
}

func consulOptions(c *config.Consul) discovery.ConsulOptions {
	return discovery.ConsulOptions{
		Address: c.Address, Service: c.Service, Tags: c.Tags, Datacenter: c.Datacenter,
		Namespace: c.Namespace, Partition: c.Partition, TokenFile: c.TokenFile,
		CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, CacheFile: c.CacheFile,
	}
}

// fleetOptions are those by which backends are found in Consul.
func fleetOptions(c *config.Config) discovery.ConsulOptions {
	o, b := consulOptions(c.Discovery.Consul), c.BackendDefaults
	o.Policy = discovery.TLSPolicy{TLS: b.TLS, ServerName: b.ServerName, ServerNames: b.ServerNames}
	return o
}

// staticBackends are the configured backends, as yet unprobed.
func staticBackends(c *config.Static) []routing.Backend {
	var all []routing.Backend
	for _, b := range c.Backends {
		all = append(all, routing.Backend{ID: b.ID, Address: b.Address, Weight: b.Weight, Tags: b.Tags, TLS: b.TLS, ServerName: b.ServerName})
	}
	return all
}

// newSource makes the source of backends. It contacts nobody yet.
// room knows which failures of a probe are no evidence against a backend.
func newSource(c *config.Config, tel *telemetry.Telemetry, room *upstream.Room) (discovery.Source, error) {
	if c.Discovery.Consul != nil {
		return discovery.NewConsul(fleetOptions(c), tel)
	}
	o := staticOptions(c, tel)
	var err error
	if o.Probe.TLSConfig, err = backendTLS(c); err != nil {
		return nil, err
	}
	sources, err := upstream.NewSources(sourceAddresses(c))
	if err != nil {
		return nil, about("backend_defaults.source_addresses", err)
	}
	o.Probe.Dial = sources.DialContext
	o.Probe.Excuse = func(backend string, err error) bool {
		if of := upstream.ShortageOf(err); of != "" {
			tel.Shortage(of, telemetry.ShortageAtProbe, err)
		}
		return room.Excuses(backend, err)
	}
	o.Probe.Answered = room.Answered
	return discovery.NewStatic(o)
}

func staticOptions(c *config.Config, tel *telemetry.Telemetry) discovery.StaticOptions {
	probe := c.Discovery.Static.Probe
	return discovery.StaticOptions{
		Backends: staticBackends(c.Discovery.Static), Telemetry: tel,
		Probe: discovery.ProbeOptions{
			Interval: probe.Interval, Timeout: probe.Timeout, Rise: probe.Rise, Fall: probe.Fall,
			DefaultTLS: c.BackendDefaults.TLS, ServerName: c.BackendDefaults.ServerName,
		},
	}
}

// backendTLS is what backends' certificates are verified with; nil: the system's
// authorities.
func backendTLS(c *config.Config) (*tls.Config, error) {
	if c.BackendDefaults.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.BackendDefaults.CAFile)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(text) {
		return nil, about("backend_defaults.ca_file", fmt.Errorf("%s holds no certificate", c.BackendDefaults.CAFile))
	}
	return &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}, nil
}

// registerOptions is how the proxy stands in Consul. bound are the listeners'
// addresses by name, for where the configuration names none.
func registerOptions(c *config.Config, bound map[string]string, tel *telemetry.Telemetry) (discovery.RegisterOptions, error) {
	o := discovery.RegisterOptions{Service: c.Register.Service, Tags: c.Register.Tags, Telemetry: tel}
	if c.Discovery.Consul != nil {
		o.Consul = consulOptions(c.Discovery.Consul)
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

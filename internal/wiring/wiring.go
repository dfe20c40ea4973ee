package wiring

import (
	"crypto/sha256"
	"crypto/tls"
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

// None is a duration for a package whose zero value means its default: 0, which the
// configuration means as written, becomes a negative one.
func None(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// Telemetry is all but the version and the clock.
func Telemetry(c *config.Config, level slog.Leveler, logs io.Writer) telemetry.Options {
	t := c.Telemetry
	return telemetry.Options{
		Service: "imapproxy", Instance: c.Hostname,
		LogWriter: logs, LogFile: t.Log.File, LogFormat: t.Log.Format, LogLevel: level,
		TracesEndpoint: t.Traces.Endpoint, TracesHeaders: t.Traces.Headers,
		SampleRatio: float64(t.Traces.Sample), SlowCommand: None(t.Traces.Slow),
		MetricsEndpoint: t.Metrics.Endpoint, MetricsHeaders: t.Metrics.Headers, MetricsInterval: t.Metrics.Interval,
		Prometheus: t.Metrics.Prometheus && c.Admin.Address != "", // else nothing serves it
	}
}

// LogLevel is the least that is logged; config has checked it already.
func LogLevel(c *config.Config) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Telemetry.Log.Level)); err != nil {
		return slog.LevelInfo
	}
	return level
}

// Routing is all but the clock. The error is an unknown storage, which config has ruled out.
func Routing(c *config.Config, tel *telemetry.Telemetry) (routing.Options, error) {
	storage, err := routing.ParseStorage(c.Routing.Storage)
	return routing.Options{
		Storage: storage, PinGrace: None(c.Routing.PinGrace), FailoverAfter: None(c.Routing.FailoverAfter),
		PanicThreshold: float64(c.Routing.PanicThreshold), FlapDamp: None(c.Routing.FlapDamp), Telemetry: tel,
	}, err
}

// Names says how a client's name for a user becomes the canonical one.
func Names(c *config.Config) auth.Names {
	return auth.Names{DefaultDomain: c.Users.DefaultDomain, Lowercase: c.Users.Lowercase, RefuseSeparators: c.Users.RefuseSeparators}
}

// Upstream is all but the room and the clock.
func Upstream(c *config.Config, tel *telemetry.Telemetry) upstream.Options {
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

// CheckSourceAddresses fails where one of them isn't this machine's.
func CheckSourceAddresses(c *config.Config) error {
	_, err := upstream.NewSources(sourceAddresses(c))
	return About("backend_defaults.source_addresses", err)
}

// Room bounds the connections to each backend.
func Room(c *config.Config) upstream.RoomOptions {
	return upstream.RoomOptions{Connections: c.Park.BackendConnections}
}

// Login says how the proxy logs in to backends; it reads the master's password, where there is one.
func Login(c *config.Config) (upstream.Auth, error) {
	if c.BackendLogin.Mode != upstream.ModeMaster {
		return upstream.Auth{Mode: upstream.ModeUser}, nil
	}
	password, err := Secret(c.BackendLogin.PasswordFile)
	return upstream.Auth{Mode: upstream.ModeMaster, MasterUser: c.BackendLogin.Username, MasterPassword: password}, err
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

// Proxy is what the configuration says by itself: the caller adds the credential sources, the
// router, the dialer, the version and the clock. own is the certificate of listeners with TLS
// for which the configuration has none, as `imapproxy dev` has them; nil elsewhere.
func Proxy(c *config.Config, own *proxy.Certificate) proxy.Options {
	return proxy.Options{
		Hostname: c.Hostname, Listeners: listenerOptions(c, own), Names: Names(c),
		BackendTLS: c.BackendDefaults.TLS, BackendServerName: c.BackendDefaults.ServerName, StallAfter: None(c.BackendDefaults.StallAfter),
		Limits: limits(c), Drain: None(c.Shutdown.Drain), Recheck: None(c.Users.Recheck),
	}
}

func limits(c *config.Config) proxy.Limits {
	l := c.Limits
	return proxy.Limits{
		Connections: l.Connections, Prelogin: l.Prelogin, Descriptors: descriptors(), PerIP: l.PerIP, PerUser: l.PerUser, UnprovedLogins: l.UnprovedLogins,
		PreloginTimeout: l.PreloginTimeout, IdleTimeout: l.IdleTimeout, AuthFailureDelay: None(l.AuthFailureDelay),
	}
}

// Target is a backend as upstream dials it: what discovery says, else the defaults.
func Target(c *config.Config, b routing.Backend) upstream.Target {
	t := upstream.Target{ID: b.ID, Name: b.Shown(), Address: b.Address, TLS: b.TLS, ServerName: b.ServerName}
	if t.TLS == "" {
		t.TLS = c.BackendDefaults.TLS
	}
	if t.ServerName == "" {
		t.ServerName = c.BackendDefaults.ServerName
	}
	return t
}

// Consul is how Consul is reached, and the service.
func Consul(c *config.Consul) discovery.ConsulOptions {
	return discovery.ConsulOptions{
		Address: c.Address, Service: c.Service, Tags: c.Tags, Datacenter: c.Datacenter,
		Namespace: c.Namespace, Partition: c.Partition, TokenFile: c.TokenFile,
		CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, CacheFile: c.CacheFile,
	}
}

// Fleet is by what backends are found in Consul.
func Fleet(c *config.Config) discovery.ConsulOptions {
	o, b := Consul(c.Discovery.Consul), c.BackendDefaults
	o.Policy = discovery.TLSPolicy{TLS: b.TLS, ServerName: b.ServerName, ServerNames: b.ServerNames}
	return o
}

// Backends are the configured backends, as yet unprobed.
func Backends(c *config.Static) []routing.Backend {
	var all []routing.Backend
	for _, b := range c.Backends {
		all = append(all, routing.Backend{ID: b.ID, Address: b.Address, Weight: b.Weight, Tags: b.Tags, TLS: b.TLS, ServerName: b.ServerName})
	}
	return all
}

// Source makes the source of backends. It doesn't contact any server yet. room knows which
// failures of a probe are no evidence against a backend.
func Source(c *config.Config, tel *telemetry.Telemetry, room *upstream.Room) (discovery.Source, error) {
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
	o.Probe.Answered = room.Answered
	return discovery.NewStatic(o)
}

// FleetFiles is a digest of the files that Source and Register read, once: where it has changed, what
// they have made goes by certificates, keys or a token that aren't there any more.
func FleetFiles(c *config.Config) [sha256.Size]byte {
	var paths []string
	if d := c.Discovery.Consul; d != nil {
		paths = []string{d.CAFile, d.CertFile, d.KeyFile, d.TokenFile}
	} else {
		paths = []string{c.BackendDefaults.CAFile}
	}
	return digestOf(paths)
}

// Static is the configured fleet and how it is probed, without what a probe dials with.
func Static(c *config.Config, tel *telemetry.Telemetry) discovery.StaticOptions {
	probe := c.Discovery.Static.Probe
	return discovery.StaticOptions{
		Backends: Backends(c.Discovery.Static), Telemetry: tel,
		Probe: discovery.ProbeOptions{
			Interval: probe.Interval, Timeout: probe.Timeout, Rise: probe.Rise, Fall: probe.Fall,
			DefaultTLS: c.BackendDefaults.TLS, ServerName: c.BackendDefaults.ServerName,
		},
	}
}

// backendTLS is what backends' certificates are verified with; nil: the system's
// authorities.
func backendTLS(c *config.Config) (*tls.Config, error) {
	authorities, err := roots(c.BackendDefaults.CAFile)
	if authorities == nil {
		return nil, About("backend_defaults.ca_file", err)
	}
	return &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}, nil
}

// Register is how the proxy stands in Consul. bound are the listeners'
// addresses by name, for where the configuration names none; admin is the admin API's.
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

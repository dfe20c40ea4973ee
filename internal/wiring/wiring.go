package wiring

import (
	"crypto/tls"
	"io"
	"log/slog"

	"imapproxy/internal/config"
	"imapproxy/proxy"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/session"
	"imapproxy/proxy/shared"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// Telemetry returns the options of telemetry, except the version and the clock. The error is a key that can't be read; the
// options lack it then.
func Telemetry(c *config.Config, level slog.Leveler, logs io.Writer) (telemetry.Options, error) {
	t := c.Telemetry
	var key telemetry.Secret
	var err error
	if t.PersonalKeyFile != "" {
		key, err = Secret(t.PersonalKeyFile)
	}
	return telemetry.Options{
		Service:  "imapproxy",
		Personal: t.Personal, PersonalKey: key,
		LogWriter: logs, LogFile: t.Log.File, LogFormat: t.Log.Format, LogLevel: level,
		LogsEndpoint: t.Log.Endpoint, LogsHeaders: t.Log.Headers, LogsProtocol: t.Log.Protocol, LogsCAFile: t.Log.CAFile,
		TracesEndpoint: t.Traces.Endpoint, TracesHeaders: t.Traces.Headers, TracesProtocol: t.Traces.Protocol, TracesCAFile: t.Traces.CAFile,
		SampleRatio: float64(t.Traces.Sample), SlowCommand: None(t.Traces.Slow),
		MetricsEndpoint: t.Metrics.Endpoint, MetricsHeaders: t.Metrics.Headers, MetricsProtocol: t.Metrics.Protocol, MetricsCAFile: t.Metrics.CAFile,
		MetricsInterval: t.Metrics.Interval,
		Prometheus:      t.Metrics.Prometheus && c.Admin.Address != "", // else nothing serves it
	}, About("telemetry.personal_key_file", err)
}

// LogLevel returns the lowest level that is logged; config has checked it.
func LogLevel(c *config.Config) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Telemetry.Log.Level)); err != nil {
		return slog.LevelInfo
	}
	return level
}

// Routing returns the router's options, except the clock. The error is an unknown storage, which config has
// ruled out.
func Routing(c *config.Config, tel *telemetry.Telemetry) (routing.Options, error) {
	storage, err := routing.ParseStorage(c.Routing.Storage)
	return routing.Options{
		Storage: storage, PinGrace: None(c.Routing.PinGrace), FailoverAfter: None(c.Routing.FailoverAfter),
		PanicThreshold: float64(c.Routing.PanicThreshold), FlapDamp: None(c.Routing.FlapDamp), Telemetry: tel,
	}, err
}

// Upstream returns the dialer's options, except the room and the clock.
func Upstream(c *config.Config, tel *telemetry.Telemetry) upstream.Options {
	b := c.BackendDefaults
	return upstream.Options{
		Hostname: c.Hostname, ConnectTimeout: b.ConnectTimeout, LoginTimeout: b.LoginTimeout,
		CAFile: b.CAFile, SourceAddresses: sourceAddresses(c), CleartextMaster: c.BackendLogin.Cleartext, Telemetry: tel,
	}
}

// CheckSourceAddresses returns an error if the machine doesn't have one of the source addresses.
func CheckSourceAddresses(c *config.Config) error {
	_, err := upstream.NewSources(sourceAddresses(c))
	return About("backend_defaults.source_addresses", err)
}

// Room returns the bounds of the connections to each backend.
func Room(c *config.Config) upstream.RoomOptions {
	return upstream.RoomOptions{Connections: c.Park.BackendConnections}
}

// Login says how the proxy logs in to backends; it reads the master's password, if there is one.
func Login(c *config.Config) (upstream.Auth, error) {
	if c.BackendLogin.Mode != upstream.ModeMaster {
		return upstream.Auth{Mode: upstream.ModeUser}, nil
	}
	password, err := Secret(c.BackendLogin.PasswordFile)
	return upstream.Auth{Mode: upstream.ModeMaster, MasterUser: c.BackendLogin.Username, MasterPassword: password}, err
}

// Shared says which namespace other users' mailboxes are in, and reads the password for the logins to their mail. The caller adds the
// owners.
func Shared(c *config.Config) (session.SharedOptions, error) {
	if c.Shared == nil {
		return session.SharedOptions{}, nil
	}
	password, err := Secret(c.Shared.PasswordFile)
	return session.SharedOptions{Space: shared.Space{Prefix: c.Shared.Namespace}, Password: password}, err
}

// listenerOptions maps the listeners. own is for those with TLS that the
// configuration gives no certificate: config refuses them, only dev has them.
func listenerOptions(c *config.Config, own *proxy.Certificate) []proxy.ListenerOptions {
	var all []proxy.ListenerOptions
	for _, l := range c.Listeners {
		o := proxy.ListenerOptions{Name: l.Name, Address: l.Address, TLS: l.TLS, CleartextFrom: l.CleartextFrom,
			TrustedProxies: l.TrustedProxies, MinVersion: tls.VersionTLS12, CBC: l.TLS12CBC, Compress: l.Compress, CompressHistory: l.CompressHistory}
		if l.MinVersion == "1.3" {
			o.MinVersion = tls.VersionTLS13
		}
		for _, cert := range l.Certificates {
			o.Certificates = append(o.Certificates, proxy.Certificate{CertFile: cert.CertFile, KeyFile: cert.KeyFile})
		}
		if len(o.Certificates) == 0 && l.TLS != proxy.TLSNone && own != nil {
			o.Certificates = []proxy.Certificate{*own}
		}
		if cc := l.ClientCertificates; cc != nil {
			o.ClientCertificates = &proxy.ClientCertificates{CAFile: cc.CAFile, CRLFile: cc.CRLFile, Name: cc.Name}
		}
		if l.ProxyProtocol != nil {
			o.ProxyTrusted, o.TLSFromProxy = l.ProxyProtocol.Trusted, l.ProxyProtocol.TLSFromProxy
		}
		all = append(all, o)
	}
	return all
}

// Proxy returns the server's options, to which the caller adds the credential sources, the router, the
// dialer, the version and the clock. own is the certificate of listeners with TLS for which the configuration
// has none; only `imapproxy dev` has such listeners, otherwise it is nil.
func Proxy(c *config.Config, own *proxy.Certificate) proxy.Options {
	return proxy.Options{
		Hostname: c.Hostname, Listeners: listenerOptions(c, own), Names: Names(c),
		BackendTLS: c.BackendDefaults.TLS, BackendServerName: c.BackendDefaults.ServerName, BackendSendProxy: c.BackendDefaults.SendProxy, StallAfter: None(c.BackendDefaults.StallAfter),
		Limits: limits(c), Guessing: guessing.Rules{Longest: c.Limits.GuessDelay, Trusted: c.Limits.GuessTrusted},
		Handshakes: guessing.HandshakeRules{PerMinute: c.Limits.TLSHandshakes, Trusted: c.Limits.GuessTrusted}, Drain: None(c.Shutdown.Drain), Recheck: None(c.Users.Recheck), RouteFor: c.Route.TTL,
	}
}

func limits(c *config.Config) proxy.Limits {
	l := c.Limits
	return proxy.Limits{
		Connections: l.Connections, Prelogin: l.Prelogin, Descriptors: descriptors(), PerIP: l.PerIP, PerUser: l.PerUser, UnprovedLogins: l.UnprovedLogins,
		PreloginTimeout: l.PreloginTimeout, IdleTimeout: l.IdleTimeout, AuthFailureDelay: None(l.AuthFailureDelay),
	}
}

// Target returns a backend as upstream dials it: discovery's values or, where it has none, the defaults.
func Target(c *config.Config, b routing.Backend) upstream.Target {
	t := upstream.Target{ID: b.ID, Name: b.Shown(), Address: b.Address, TLS: b.TLS, ServerName: b.ServerName, SendProxy: b.SendProxy}
	if t.TLS == "" {
		t.TLS = c.BackendDefaults.TLS
	}
	if t.ServerName == "" {
		t.ServerName = c.BackendDefaults.ServerName
	}
	if t.SendProxy == "" {
		t.SendProxy = c.BackendDefaults.SendProxy
	}
	return t
}

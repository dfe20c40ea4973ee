package config

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// validate checks combinations of settings: addresses, files that belong together, contradictions. It sets
// values that depend on other settings or on the machine.
func (d *decoder) validate(c *Config) []Warning {
	if c.Hostname == "" {
		c.Hostname = ownName()
	}
	d.oneWord("hostname", c.Hostname)
	d.listeners(c)
	d.users(c)
	d.auth(c)
	d.authPolicy(c)
	d.backendLogin(c)
	d.discovery(c)
	if c.Register != nil && c.Register.Address != "" {
		d.address("register.address", c.Register.Address, 1)
	}
	if c.Register != nil && c.Register.AdminAddress != "" {
		d.address("register.admin_address", c.Register.AdminAddress, 1)
	}
	if c.BackendDefaults.CAFile != "" {
		d.authorities("backend_defaults.ca_file", c.BackendDefaults.CAFile)
	}
	for _, a := range c.BackendDefaults.SourceAddresses {
		if ip, err := netip.ParseAddr(a); err != nil || ip.IsUnspecified() || ip.IsMulticast() {
			d.fail(d.at("backend_defaults.source_addresses"), fmt.Sprintf("backend_defaults.source_addresses: %q isn't an address of a machine", a), "write addresses of this machine, such as \"192.0.2.10\"")
		}
	}
	if c.BackendDefaults.TLS == "none" && (c.BackendDefaults.CAFile != "" || c.BackendDefaults.ServerName != "") && c.Discovery.Static == nil {
		d.warn(d.at("backend_defaults"), "backend_defaults: ca_file and server_name have no meaning with tls = \"none\"", "write tls = \"starttls\" or tls = \"implicit\", or remove them")
	}
	d.backendTLS(c)
	d.park(c)
	d.telemetry(c)
	d.admin(c)
	d.cluster(c)
	d.route(c)
	d.addressesTwice(c)
	d.domains(c)
	d.placements(c)
	d.shared(c)
	d.idleTimeout(c)
	slices.SortStableFunc(d.warnings, func(a, b Warning) int { return cmp.Compare(a.Line, b.Line) })
	return d.warnings
}

func (d *decoder) listeners(c *Config) {
	if len(c.Listeners) == 0 && !d.failed["listener"] {
		d.failed["listener"] = true
		d.fail(d.at(""), "there is no listener", "write listener \"imaps\" { … } with an address and a certificate")
	}
	for _, l := range c.Listeners {
		path := "listener." + l.Name
		d.address(path+".address", l.Address, 0)
		if l.TLS == "none" && len(l.Certificates) > 0 {
			d.fail(d.at(path+".certificate"), path+": a certificate has no meaning with tls = \"none\"", "remove it, or write tls = \"implicit\" or tls = \"starttls\"")
		}
		if l.TLS != "none" && len(l.Certificates) == 0 && !d.failed[path+".tls"] {
			d.fail(d.at(path), fmt.Sprintf("%s: tls = %q needs a certificate", path, l.TLS), "write certificate { … } with cert_file and key_file, each on a line of its own")
		}
		if l.TLS == "none" && len(l.CleartextFrom) == 0 && !(l.ProxyProtocol != nil && l.ProxyProtocol.TLSFromProxy) && !d.failed[path+".cleartext_from"] {
			d.warn(d.at(path), path+": no client can log in here: there is no TLS and cleartext_from is empty", "write cleartext_from = [\"127.0.0.0/8\", \"::1/128\"] or whichever networks may")
		}
		for _, network := range l.CleartextFrom {
			if !network.Addr().IsLoopback() && !network.Addr().IsPrivate() {
				d.warn(d.at(path+".cleartext_from"), fmt.Sprintf("%s.cleartext_from: passwords from %s may be read on the way", path, network), "remove networks that aren't your own")
			}
		}
		if l.ClientCertificates != nil {
			d.clientCertificates(c, l)
		}
		for i := range l.Certificates {
			d.pair(certificatePath(path, i), l.Certificates[i].CertFile, l.Certificates[i].KeyFile)
		}
		if l.ProxyProtocol != nil && len(l.ProxyProtocol.Trusted) == 0 && !d.failed[path+".proxy_protocol.trusted"] {
			d.fail(d.at(path+".proxy_protocol.trusted"), path+".proxy_protocol: with trusted = [] no client may connect", "name the load balancers' networks or remove the block")
		}
		if l.ProxyProtocol != nil && l.ProxyProtocol.TLSFromProxy && l.TLS == "implicit" && !d.failed[path+".tls"] {
			d.fail(d.at(path+".proxy_protocol.tls_from_proxy"), path+".proxy_protocol: tls_from_proxy is for load balancers that end TLS, and with tls = \"implicit\" they have to begin it again", "write tls = \"none\" or \"starttls\", or remove it")
		}
	}
}

// certificatePath is how decoder.block numbers blocks without a name.
func certificatePath(listener string, i int) string {
	if i == 0 {
		return listener + ".certificate"
	}
	return fmt.Sprintf("%s.certificate#%d", listener, i+1)
}

func (d *decoder) users(c *Config) {
	if strings.Contains(c.Users.DefaultDomain, "@") {
		d.fail(d.at("users.default_domain"), "users.default_domain: write the domain without @", "write %q", c.Users.DefaultDomain[strings.LastIndex(c.Users.DefaultDomain, "@")+1:])
	}
	d.oneWord("users.default_domain", c.Users.DefaultDomain)
}

func (d *decoder) backendLogin(c *Config) {
	d.tokens(c)
	b := c.BackendLogin
	switch b.Mode {
	case "master":
		if b.Username == "" && !d.failed["backend_login.username"] {
			d.fail(d.at("backend_login"), "backend_login.username is missing: mode \"master\" needs it", "write username = \"proxy\"")
		}
		if b.PasswordFile == "" && !d.failed["backend_login.password_file"] {
			d.fail(d.at("backend_login"), "backend_login.password_file is missing: mode \"master\" needs it", "write password_file = \"master.password\"")
		}
		// Users whom auth "backend" decides about log in with their own password, whatever the mode: with the
		// master's password every login would succeed.
		if len(c.Auth) == 1 && c.Auth[0].Backend != nil {
			d.fail(d.at("backend_login.mode"), "backend_login: mode \"master\" is for users that another source than auth \"backend\" has accepted, and there is none", "write auth \"passwd_file\" { … }, or mode = \"user\"")
		}
	case "user":
		for _, name := range []string{"username", "password_file", "cleartext"} {
			if d.written("backend_login." + name) {
				d.fail(d.at("backend_login."+name), fmt.Sprintf("backend_login.%s has no meaning with mode \"user\"", name), "remove it or write mode = \"master\"")
			}
		}
		for _, a := range c.Auth {
			if a.PasswdFile != nil {
				d.warn(d.at(a.Path()), a.String()+" with backend_login mode \"user\": each password must be the same here and on the backends", "write backend_login { … } with mode = \"master\" unless it is")
				break
			}
		}
	}
}

func (d *decoder) discovery(c *Config) {
	if consul := c.Discovery.Consul; consul != nil {
		if (consul.CertFile == "") != (consul.KeyFile == "") && !d.failed["discovery.consul.cert_file"] && !d.failed["discovery.consul.key_file"] {
			d.fail(d.at("discovery.consul"), "discovery.consul: cert_file and key_file only work together", "write both or none")
		} else if consul.CertFile != "" {
			d.pair("discovery.consul", consul.CertFile, consul.KeyFile)
		}
		if consul.CAFile != "" {
			d.authorities("discovery.consul.ca_file", consul.CAFile)
		}
		if consul.Service == "" && !d.failed["discovery.consul.service"] {
			d.fail(d.at("discovery.consul.service"), "discovery.consul.service is empty", "write service = \"imap\"")
		}
	}
	static := c.Discovery.Static
	if static == nil {
		return
	}
	if len(static.Backends) == 0 && !d.writtenBelow("discovery.static.backend") {
		d.fail(d.at("discovery.static"), "discovery \"static\" has no backend", "write backend \"b1\" { … } with an address, each on a line of its own")
	}
	seen := map[string]string{}
	for _, b := range static.Backends {
		path := "discovery.static.backend." + b.ID
		d.oneWord(path, b.ID)
		if d.address(path+".address", b.Address, 1) {
			if other, again := seen[b.Address]; again {
				d.warn(d.at(path+".address"), fmt.Sprintf("%s.address: backend %q has the address %s already", path, other, b.Address), "give each backend an address of its own")
			}
			seen[b.Address] = b.ID
		}
	}
	if static.Probe.Timeout > static.Probe.Interval && (d.written("discovery.static.probe.timeout") || d.written("discovery.static.probe.interval")) {
		d.warn(d.at("discovery.static.probe"), "discovery.static.probe: timeout is longer than interval", "write a longer interval or a shorter timeout")
	}
}

// backendTLS checks where passwords go without TLS, and which names certificates may have.
func (d *decoder) backendTLS(c *Config) {
	for _, name := range c.BackendDefaults.ServerNames {
		host := strings.TrimPrefix(name, "*.")
		if host == "" || strings.ContainsAny(host, "*/: \t\r\n") && net.ParseIP(host) == nil {
			d.fail(d.at("backend_defaults.server_names"), fmt.Sprintf("backend_defaults.server_names: %q isn't the name of a certificate", name), "write \"mail.example.org\", or \"*.example.org\" for each name of one more label")
			break
		}
	}
	master := c.BackendLogin.Mode == "master" && !c.BackendLogin.Cleartext
	if c.Discovery.Static == nil {
		if c.Discovery.Consul != nil && c.BackendDefaults.TLS == "none" && !d.failed["backend_defaults.tls"] {
			what := "backend_defaults.tls: with \"none\" passwords go in the clear to each backend in Consul that has no meta tls"
			if master {
				what = "backend_defaults.tls: with \"none\" no user can log in to a backend in Consul that has no meta tls, except on this machine: the master's password isn't sent in the clear"
			}
			d.warn(d.at("backend_defaults"), what, "write tls = \"starttls\" or \"implicit\"")
		}
		return
	}
	for _, b := range c.Discovery.Static.Backends {
		path := "discovery.static.backend." + b.ID
		if cmp.Or(b.TLS, c.BackendDefaults.TLS) != "none" || d.failed[path+".address"] || onThisMachine(b.Address) {
			continue
		}
		if master {
			d.fail(d.at(path), path+": the master's password, by which every mailbox can be opened, would go to another machine without TLS", "write tls = \"starttls\" or \"implicit\", or backend_login { cleartext = true } if no one else can read that network's traffic")
			return
		}
		d.warn(d.at(path), fmt.Sprintf("%s: passwords go to %s without TLS", path, b.Address), "write tls = \"starttls\" or \"implicit\" unless no one else can read that network's traffic")
	}
}

// idleTimeout warns of settings that would end correct clients. RFC 9051 §5.4: 30 minutes at least; RFC 2177:
// clients in IDLE end it and begin it again every 29 minutes.
func (d *decoder) idleTimeout(c *Config) {
	if c.Limits.IdleTimeout < 30*time.Minute && !d.failed["limits.idle_timeout"] {
		d.warn(d.at("limits.idle_timeout"), fmt.Sprintf("limits.idle_timeout: %v is less than the 30 minutes that RFC 9051 §5.4 grants; clients in IDLE send something every 29 minutes only, and their sessions end before", c.Limits.IdleTimeout),
			"write idle_timeout = \"31m\"")
	}
}

func (d *decoder) telemetry(c *Config) {
	d.openTelemetry(c)
	switch t := c.Telemetry; {
	case t.Personal == "hashed" && t.PersonalKeyFile == "" && !d.failed["telemetry.personal_key_file"]:
		d.fail(d.at("telemetry.personal"), "telemetry.personal_key_file is missing: personal = \"hashed\" needs a key, which is the same on all proxies", "write personal_key_file = \"personal.key\", with the output of: openssl rand -hex 32")
	case t.Personal != "hashed" && t.PersonalKeyFile != "":
		d.warn(d.at("telemetry.personal_key_file"), "telemetry.personal_key_file has no meaning without personal = \"hashed\"", "remove it, or write personal = \"hashed\"")
	}
	if at := c.Telemetry.TraceURL; at != "" && !d.failed["telemetry.trace_url"] {
		u, err := url.Parse(strings.ReplaceAll(at, "{trace_id}", "0"))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || !strings.Contains(at, "{trace_id}") {
			d.fail(d.at("telemetry.trace_url"), "telemetry.trace_url isn't a URL that begins with http:// or https://, has no password in it, and has {trace_id} where the trace's id goes",
				"write https://traces.example.org/trace/{trace_id}, in quotes")
		}
	}
	for path, file := range map[string]string{
		"telemetry.traces.ca_file":  c.Telemetry.Traces.CAFile,
		"telemetry.metrics.ca_file": c.Telemetry.Metrics.CAFile,
		"telemetry.log.ca_file":     c.Telemetry.Log.CAFile,
	} {
		if file != "" {
			d.authorities(path, file)
		}
	}
	for path, endpoint := range map[string]string{
		"telemetry.traces.endpoint":  c.Telemetry.Traces.Endpoint,
		"telemetry.metrics.endpoint": c.Telemetry.Metrics.Endpoint,
		"telemetry.log.endpoint":     c.Telemetry.Log.Endpoint,
	} {
		if endpoint == "" {
			continue
		}
		u, err := url.Parse(endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			d.fail(d.at(path), path+" isn't the URL of an OTLP endpoint", "write http://127.0.0.1:4318, in quotes")
		}
	}
	for path, headers := range map[string]map[string]string{
		"telemetry.traces.headers":  c.Telemetry.Traces.Headers,
		"telemetry.metrics.headers": c.Telemetry.Metrics.Headers,
		"telemetry.log.headers":     c.Telemetry.Log.Headers,
	} {
		for name, value := range headers {
			if strings.ContainsAny(name+value, "\r\n\x00") || name == "" {
				d.fail(d.at(path), path+": a name is empty, or a name or value has a line break in it", "write each header as one line")
				break
			}
		}
	}
}

func (d *decoder) admin(c *Config) {
	a := c.Admin
	switch {
	case d.failed["admin.cert_file"] || d.failed["admin.key_file"]:
	case (a.CertFile == "") != (a.KeyFile == ""):
		d.fail(d.at("admin"), "admin: cert_file and key_file only work together", "write both or none")
	default:
		d.pair("admin", a.CertFile, a.KeyFile)
	}
	if a.ReadTokenFile != "" && a.TokenFile == "" && !d.failed["admin.token_file"] {
		d.fail(d.at("admin.read_token_file"), "admin.read_token_file: without token_file no token is needed", "write token_file = \"admin.token\" as well")
	}
	if a.ReadTokenFile != "" && a.ReadTokenFile == a.TokenFile {
		d.fail(d.at("admin.read_token_file"), "admin.read_token_file: it is the file of token_file, so its token may do everything", "name another file, with another token")
	}
	if a.Address == "" || !d.address("admin.address", a.Address, 0) {
		return
	}
	host, _, _ := net.SplitHostPort(a.Address)
	addr, err := netip.ParseAddr(host)
	loopback := host == "localhost" || err == nil && addr.IsLoopback()
	if !loopback && a.TokenFile == "" && !d.failed["admin.token_file"] {
		d.fail(d.at("admin.address"), fmt.Sprintf("admin.address: %s can be reached from other machines, and that needs a token", a.Address), "write token_file = \"admin.token\", or address = \"127.0.0.1:8143\"")
	}
}

// pair checks that a certificate and a key can be read and belong together.
func (d *decoder) pair(path, certFile, keyFile string) {
	if certFile == "" || keyFile == "" || d.failed[path+".cert_file"] || d.failed[path+".key_file"] {
		return
	}
	if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		d.fail(d.at(path), fmt.Sprintf("%s: %s and %s are no certificate with its key: %v", path, certFile, keyFile, err), "name PEM files that belong together, the certificate's chain in one file")
	}
}

// ownName is the machine's name, and never empty.
func ownName() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "localhost"
}

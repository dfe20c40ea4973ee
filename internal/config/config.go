// Package config turns an HCL file into typed, validated settings. It is the only package that knows HCL: a
// file is read whole, everything that is wrong with it is reported at once (file, line, what is wrong, what
// to write instead), and the settings need no further checks.
//
// internal/wiring maps a Config to each package's Options. The manual of the settings is config.hcl at the
// repository's root: tests compare it with the struct tags of this file.
//
// Imports none of our packages. Imported by cmd/imapproxy, internal/app and
// internal/wiring.
package config

import (
	"net/netip"
	"strconv"
	"time"
)

// The struct tags are the schema, read by decode.go, diff.go and the tests:
//
//	hcl:"name"           an attribute
//	hcl:"name,block"     a block: a struct (at most one, defaults apply without it), a
//	                     pointer (nil without it) or a slice (any number, in order)
//	hcl:"name,label"     the block's label
//	hcl:"name,variants"  a block whose label chooses one of the struct's variant fields
//	hcl:"name,variant"   the pointer that holds the variant of this label; if its struct has a
//	                     label, that is the block's second one, which may be left out
//	default:"…"          the value of a setting that the file doesn't have, in the file's form
//	required:"…"         must be written; the text says what to write
//	enum:"a|b"           the only values
//	min:"…" max:"…"      bounds of a number or duration, inclusive
//	path:"…"             a file that must be there and be readable: "cert", "secret", or "users",
//	                     which may be empty; relative names are
//	                     relative to the folder of the configuration file. path:"own" is a
//	                     file that the proxy writes: its folder must be there. path:"socket"
//	                     is a unix socket that it makes
//	read:"…"             when the file's content is read: "changed": whenever it has changed;
//	                     "start": at the start; without the tag: at the start and at each reload
//	reload:"restart"     a change of it needs a restart; in a block with a name the whole
//	                     block then does, since its settings only fit together
//	secret:"all"         a value that may hold a secret, which is never shown; secret:"url": a
//	                     URL, shown without its user, password and parameters

// Config is a whole configuration. Every field is set: a setting that the file doesn't have has its default.
type Config struct {
	// Hostname is the name that clients know the proxy by, never empty.
	Hostname        string          `hcl:"hostname" default:""`
	Listeners       []Listener      `hcl:"listener,block"`
	Users           Users           `hcl:"users,block"`
	Auth            []Auth          `hcl:"auth,variants"`
	AuthPolicy      *AuthPolicy     `hcl:"auth_policy,block"`
	BackendLogin    BackendLogin    `hcl:"backend_login,block"`
	BackendDefaults BackendDefaults `hcl:"backend_defaults,block"`
	Discovery       Discovery       `hcl:"discovery,variants" required:"discovery \"consul\" { service = \"imap\" } or discovery \"static\" with a backend block"`
	Routing         Routing         `hcl:"routing,block"`
	Domains         []Domain        `hcl:"domain,block"`
	Register        *Register       `hcl:"register,block"`
	Route           Route           `hcl:"route,block"`
	Cluster         *Cluster        `hcl:"cluster,block"`
	Limits          Limits          `hcl:"limits,block"`
	Park            Park            `hcl:"park,block"`
	Telemetry       Telemetry       `hcl:"telemetry,block"`
	Shared          *Shared         `hcl:"shared,block"`
	Admin           Admin           `hcl:"admin,block"`
	Shutdown        Shutdown        `hcl:"shutdown,block"`
}

// Listener is one address that clients connect to.
type Listener struct {
	Name         string        `hcl:"name,label"`
	Address      string        `hcl:"address" required:"address = \":993\"" reload:"restart"`
	TLS          string        `hcl:"tls" default:"implicit" enum:"implicit|starttls|none" reload:"restart"`
	Certificates []Certificate `hcl:"certificate,block"`
	MinVersion   string        `hcl:"min_version" default:"1.2" enum:"1.2|1.3"`
	// TLS12CBC also offers the suites of TLS 1.2 with CBC.
	TLS12CBC bool `hcl:"tls12_cbc" default:"false"`
	// ClientCertificates are those by which clients may log in; nil: clients aren't asked for one.
	ClientCertificates *ClientCertificates `hcl:"client_certificates,block"`
	CleartextFrom      []netip.Prefix      `hcl:"cleartext_from" default:"[]"`
	ProxyProtocol      *ProxyProtocol      `hcl:"proxy_protocol,block"`
	// TrustedProxies are the networks of IMAP proxies and webmail in front of this one.
	TrustedProxies []netip.Prefix `hcl:"trusted_proxies" default:"[]"`
	// Compress offers COMPRESS=DEFLATE after login.
	Compress        bool `hcl:"compress" default:"false"`
	CompressHistory int  `hcl:"compress_history" default:"8192" min:"0" max:"8192"`
}

// Certificate is a certificate chain and its key, both PEM files.
type Certificate struct {
	CertFile string `hcl:"cert_file" path:"cert" required:"cert_file = \"/path/to/fullchain.pem\"" read:"changed"`
	KeyFile  string `hcl:"key_file" path:"secret" required:"key_file = \"/path/to/privkey.pem\"" read:"changed"`
}

// ClientCertificates say whose certificates clients may log in by.
type ClientCertificates struct {
	CAFile  string `hcl:"ca_file" path:"cert" required:"ca_file = \"/path/to/users-ca.pem\"" read:"changed"`
	CRLFile string `hcl:"crl_file" path:"cert" default:"" read:"changed"`
	Name    string `hcl:"name" default:"san_email" enum:"san_email|san_upn|subject_email|common_name"`
}

// ProxyProtocol says which addresses may send the client's address (PROXY v1 and v2).
type ProxyProtocol struct {
	Trusted []netip.Prefix `hcl:"trusted" required:"trusted = [\"10.0.0.0/8\"]"`
	// TLSFromProxy: a client counts as one with TLS if the load balancer's header says that it uses TLS.
	TLSFromProxy bool `hcl:"tls_from_proxy" default:"false"`
}

// Users says how a name that a client gives becomes the canonical one.
type Users struct {
	DefaultDomain string `hcl:"default_domain" default:""`
	Lowercase     bool   `hcl:"lowercase" default:"true"`
	// Recheck is how long a source's verdict counts for users who are logged in.
	Recheck time.Duration `hcl:"recheck" default:"5m" min:"0s" max:"24h"`
	// RefuseSeparators are characters that no client's name may have.
	RefuseSeparators string `hcl:"refuse_separators" default:"*"`
	// ScramSecretFile has the secret from which SCRAM's salts are made up for users who have no keys.
	ScramSecretFile string `hcl:"scram_secret_file" path:"secret" default:""`
}

// BackendLogin says with which credentials the proxy logs in to a backend.
type BackendLogin struct {
	Mode         string `hcl:"mode" default:"user" enum:"user|master"`
	Username     string `hcl:"username" default:""`
	PasswordFile string `hcl:"password_file" path:"secret" default:""`
	// Cleartext lets the master's password go to another machine without TLS.
	Cleartext bool `hcl:"cleartext" default:"false"`
}

// BackendDefaults are settings of backends for which discovery has no value.
type BackendDefaults struct {
	TLS            string        `hcl:"tls" default:"none" enum:"none|starttls|implicit"`
	CAFile         string        `hcl:"ca_file" path:"cert" default:""`
	ServerName     string        `hcl:"server_name" default:""`
	ServerNames    []string      `hcl:"server_names" default:"[]"`
	SendProxy      string        `hcl:"send_proxy" default:"none" enum:"none|v2"`
	ConnectTimeout time.Duration `hcl:"connect_timeout" default:"3s" min:"10ms" max:"5m"`
	LoginTimeout   time.Duration `hcl:"login_timeout" default:"20s" min:"10ms" max:"10m"`
	StallAfter     time.Duration `hcl:"stall_after" default:"30s" min:"0s" max:"1h"`

	SourceAddresses []string `hcl:"source_addresses" default:"[]"`
}

// Discovery is where backends come from; exactly one field is set.
type Discovery struct {
	Consul *Consul `hcl:"consul,variant"`
	Static *Static `hcl:"static,variant"`
}

// Consul finds backends as instances of a Consul service. Empty settings have the values of the CONSUL_HTTP_*
// environment, or else Consul's own defaults.
type Consul struct {
	Address    string   `hcl:"address" default:"" secret:"url"`
	Service    string   `hcl:"service" required:"service = \"imap\""`
	Tags       []string `hcl:"tags" default:"[]"`
	Datacenter string   `hcl:"datacenter" default:""`
	Namespace  string   `hcl:"namespace" default:""`
	Partition  string   `hcl:"partition" default:""`
	TokenFile  string   `hcl:"token_file" path:"secret" default:""`
	CAFile     string   `hcl:"ca_file" path:"cert" default:""`
	CertFile   string   `hcl:"cert_file" path:"cert" default:""`
	KeyFile    string   `hcl:"key_file" path:"secret" default:""`
	CacheFile  string   `hcl:"cache_file" path:"own" default:""`
}

// Static is a fixed list of backends, probed by the proxy itself.
type Static struct {
	Backends []StaticBackend `hcl:"backend,block"`
	Probe    Probe           `hcl:"probe,block"`
}

// StaticBackend is one backend of discovery "static".
type StaticBackend struct {
	ID         string   `hcl:"id,label"`
	Address    string   `hcl:"address" required:"address = \"10.0.0.11:143\""`
	Weight     int      `hcl:"weight" default:"100" min:"0" max:"65535"`
	TLS        string   `hcl:"tls" default:"" enum:"|none|starttls|implicit"`
	ServerName string   `hcl:"server_name" default:""`
	SendProxy  string   `hcl:"send_proxy" default:"" enum:"|none|v2"`
	Tags       []string `hcl:"tags" default:"[]"`
}

// Probe says how the proxy finds out whether a static backend is up.
type Probe struct {
	Interval time.Duration `hcl:"interval" default:"5s" min:"10ms" max:"1h"`
	Timeout  time.Duration `hcl:"timeout" default:"3s" min:"10ms" max:"5m"`
	Rise     int           `hcl:"rise" default:"2" min:"1" max:"100"`
	Fall     int           `hcl:"fall" default:"3" min:"1" max:"100"`
}

// Domain says where the users of a domain are that have no placement of their own.
type Domain struct {
	Name      string `hcl:"name,label"`
	Placement string `hcl:"placement" required:"placement = \"imap1\", a backend's name"`
}

// Routing says which backend a user belongs to.
type Routing struct {
	Storage        string        `hcl:"storage" enum:"shared|separate" required:"storage = \"shared\" if every backend serves every mailbox, storage = \"separate\" if each user's mail is on one of them"`
	PinGrace       time.Duration `hcl:"pin_grace" default:"15m" min:"0s" max:"168h"`
	FailoverAfter  time.Duration `hcl:"failover_after" default:"30s" min:"0s" max:"24h"`
	PanicThreshold Percent       `hcl:"panic_threshold" default:"50%" min:"1%"`
	FlapDamp       time.Duration `hcl:"flap_damp" default:"30s" min:"0s" max:"1h"`
}

// Shared has the settings of mailboxes that users of different backends share.
type Shared struct {
	Namespace    string `hcl:"namespace" default:"shared/"`
	OwnerLogin   string `hcl:"owner_login" default:"master" enum:"master"`
	PasswordFile string `hcl:"password_file" path:"secret" required:"password_file = \"shared.password\""`
}

// Route says what other programs than mail clients are told of users' backends.
type Route struct {
	// Address is where Postfix asks; an empty one turns that off.
	Address   string        `hcl:"address" default:"" reload:"restart"`
	Domains   []string      `hcl:"domains" default:"[]"`
	Delimiter string        `hcl:"delimiter" default:"+"`
	TTL       time.Duration `hcl:"ttl" default:"5s" min:"1s" max:"1m"`
	LMTP      int           `hcl:"lmtp_port" default:"24" min:"1" max:"65535"`
	POP3      int           `hcl:"pop3_port" default:"110" min:"1" max:"65535"`
	Sieve     int           `hcl:"sieve_port" default:"4190" min:"1" max:"65535"`
}

// Register registers the proxy as a service in Consul.
type Register struct {
	Service string   `hcl:"service" default:"imapproxy"`
	Address string   `hcl:"address" default:""`
	Tags    []string `hcl:"tags" default:"[]"`
	// AdminAddress is where others reach the admin API.
	AdminAddress string `hcl:"admin_address" default:""`
	// AllowOthers lets this proxy start if another one is alive under the service, and there is no cluster block.
	AllowOthers bool `hcl:"allow_others" default:"false"`
	// DeregisterAfter is deregister_critical_service_after of the entry's check.
	DeregisterAfter time.Duration `hcl:"deregister_after" default:"1h" min:"1m" max:"8760h"`
}

// Cluster has the settings of several proxies of one service. Service to AskWithin are how they find and ask each other
// (internal/peers). The others are how they agree on where users are (routing/cluster), which they do with discovery "consul".
type Cluster struct {
	Service       string        `hcl:"service" default:"imapproxy"`
	Peers         []string      `hcl:"peers" default:"[]"`
	TokenFile     string        `hcl:"token_file" path:"secret" default:""`
	TLS           bool          `hcl:"tls" default:"false"`
	CAFile        string        `hcl:"ca_file" path:"cert" default:""`
	ServerName    string        `hcl:"server_name" default:""`
	AskWithin     time.Duration `hcl:"ask_within" default:"2s" min:"100ms" max:"8s"`
	MoveRate      int           `hcl:"move_rate" default:"50" min:"1" max:"100000"`
	AgreeWithin   time.Duration `hcl:"agree_within" default:"10s" min:"1s" max:"5m"`
	Isolated      string        `hcl:"isolated" default:"serve" enum:"serve|hold"`
	SessionTTL    time.Duration `hcl:"session_ttl" default:"45s" min:"10s" max:"10m"`
	RebalanceRate int           `hcl:"rebalance_rate" default:"0" min:"0" max:"100000"`
}

// Limits bound the resources of clients. A count of 0 is no limit, except for the total of connections, which
// the number of files that the process may open bounds.
type Limits struct {
	Connections      int           `hcl:"connections" default:"0" min:"0"`
	Prelogin         int           `hcl:"prelogin_connections" default:"0" min:"0"`
	PerIP            int           `hcl:"per_ip" default:"0" min:"0"`
	PerUser          int           `hcl:"per_user" default:"0" min:"0"`
	TLSHandshakes    int           `hcl:"tls_handshakes" default:"600" min:"0"`
	UnprovedLogins   int           `hcl:"unproved_logins" default:"32" min:"1" max:"100000"`
	PreloginTimeout  time.Duration `hcl:"prelogin_timeout" default:"60s" min:"100ms" max:"1h"`
	IdleTimeout      time.Duration `hcl:"idle_timeout" default:"31m" min:"1s" max:"168h"`
	AuthFailureDelay time.Duration `hcl:"auth_failure_delay" default:"2s" min:"0s" max:"30s"`
	GuessDelay       time.Duration `hcl:"guess_delay" default:"15s" min:"0s" max:"15s"`
	// GuessTrusted are the networks whose clients' wrong passwords delay no later login.
	GuessTrusted []netip.Prefix `hcl:"guess_trusted" default:"[]"`
}

// Park has the settings of parking. Reloaded settings apply to sessions that log in afterwards, except for
// the pool's settings and Enabled = false.
type Park struct {
	Enabled            bool          `hcl:"enabled" default:"true"`
	Linger             time.Duration `hcl:"linger" default:"60s" min:"0s" max:"20m"`
	QuietAfter         time.Duration `hcl:"quiet_after" default:"5m" min:"0s" max:"168h"`
	Watch              string        `hcl:"watch" default:"auto" enum:"auto|push|notify|idle|poll" reload:"restart"`
	Keepalive          time.Duration `hcl:"keepalive" default:"2m" min:"0s" max:"29m"`
	SweepEvery         time.Duration `hcl:"sweep_every" default:"15m" min:"1s" max:"24h" reload:"restart"`
	WarmFor            time.Duration `hcl:"warm_for" default:"5m" min:"0s" max:"10m"`
	WarmPerUser        int           `hcl:"warm_per_user" default:"4" min:"1" max:"1000"`
	WarmConnections    int           `hcl:"warm_connections" default:"0" min:"0" max:"10000000"`
	BackendConnections int           `hcl:"backend_connections" default:"0" min:"0" max:"10000000"`
	AuthCacheFor       time.Duration `hcl:"auth_cache_for" default:"5m" min:"0s" max:"1h"`
	MaxDiffMessages    int           `hcl:"max_diff_messages" default:"10000" min:"1" max:"1000000" reload:"restart"`
	ResumeConcurrency  int           `hcl:"resume_concurrency" default:"32" min:"1" max:"10000"`
	ResumeRate         int           `hcl:"resume_rate" default:"0" min:"0" max:"100000"`
	// BackendProcessMemory is the memory of a backend's process for one connection, for the bill; 0: not known.
	BackendProcessMemory Size   `hcl:"backend_process_memory" default:"0B" max:"1TiB"`
	Events               Events `hcl:"events,block"`
}

// Events says where backends post what happens in mailboxes; without a TokenFile
// there are none.
type Events struct {
	Address   string `hcl:"address" default:"" reload:"restart"`
	TokenFile string `hcl:"token_file" path:"secret" default:"" reload:"restart"`
}

// Push says whether backends may post events. They may while parking is off, too: a reload can switch parking
// on, and senders needn't know.
func (p Park) Push() bool { return p.Events.TokenFile != "" }

// Telemetry says where logs, traces and metrics go.
type Telemetry struct {
	Personal        string `hcl:"personal" default:"full" enum:"full|hashed|none" reload:"restart"`
	PersonalKeyFile string `hcl:"personal_key_file" path:"secret" default:"" reload:"restart" read:"start"`

	Log     Log     `hcl:"log,block"`
	Traces  Traces  `hcl:"traces,block"`
	Metrics Metrics `hcl:"metrics,block"`
	// TraceURL is where people look at a trace; {trace_id} stands for its id.
	TraceURL string `hcl:"trace_url" default:"" secret:"url"`
}

// Log is written to standard error, or to a file that a reload opens again, and sent to an OTLP endpoint, where one is named.
type Log struct {
	File     string            `hcl:"file" path:"own" default:""`
	Format   string            `hcl:"format" default:"text" enum:"text|json" reload:"restart"`
	Level    string            `hcl:"level" default:"info" enum:"debug|info|warn|error"`
	Endpoint string            `hcl:"endpoint" default:"" reload:"restart" secret:"url"`
	Protocol string            `hcl:"protocol" default:"http" enum:"http|grpc" reload:"restart"`
	CAFile   string            `hcl:"ca_file" path:"cert" default:"" reload:"restart"`
	Headers  map[string]string `hcl:"headers" default:"{}" reload:"restart" secret:"all"`
}

// Traces go to an OTLP endpoint; an empty one turns them off. What the file leaves out of an exporter the environment may say (otel.go).
type Traces struct {
	Endpoint string            `hcl:"endpoint" default:"" reload:"restart" secret:"url"`
	Protocol string            `hcl:"protocol" default:"http" enum:"http|grpc" reload:"restart"`
	CAFile   string            `hcl:"ca_file" path:"cert" default:"" reload:"restart"`
	Headers  map[string]string `hcl:"headers" default:"{}" reload:"restart" secret:"all"`
	Sample   Percent           `hcl:"sample" default:"1%"`
	Slow     time.Duration     `hcl:"slow" default:"2s" min:"0s" max:"1h"`
}

// Metrics are served on the admin address and pushed to an OTLP endpoint,
// where one is named.
type Metrics struct {
	Prometheus bool              `hcl:"prometheus" default:"true" reload:"restart"`
	Endpoint   string            `hcl:"endpoint" default:"" reload:"restart" secret:"url"`
	Protocol   string            `hcl:"protocol" default:"http" enum:"http|grpc" reload:"restart"`
	CAFile     string            `hcl:"ca_file" path:"cert" default:"" reload:"restart"`
	Headers    map[string]string `hcl:"headers" default:"{}" reload:"restart" secret:"all"`
	Interval   time.Duration     `hcl:"interval" default:"60s" min:"100ms" max:"1h" reload:"restart"`
}

// Admin is the HTTP API; an empty address turns it off.
type Admin struct {
	Address       string `hcl:"address" default:"127.0.0.1:8143" reload:"restart"`
	TokenFile     string `hcl:"token_file" path:"secret" default:"" reload:"restart" read:"start"`
	ReadTokenFile string `hcl:"read_token_file" path:"secret" default:"" reload:"restart" read:"start"`
	CertFile      string `hcl:"cert_file" path:"cert" default:"" reload:"restart"`
	KeyFile       string `hcl:"key_file" path:"secret" default:"" reload:"restart"`
}

// Shutdown is what SIGTERM does, and how a process hands over to its successor.
type Shutdown struct {
	LameDuck time.Duration `hcl:"lame_duck" default:"0s" min:"0s" max:"10m"`
	Drain    time.Duration `hcl:"drain" default:"30s" min:"0s" max:"1h"`
	Handover time.Duration `hcl:"handover" default:"1h" min:"0s" max:"168h"`
	Socket   string        `hcl:"handover_socket" path:"socket" default:"" reload:"restart"`
}

// Percent is a share from 0 to 1, written as "50%".
type Percent float64

// String is the share as it is written.
func (p Percent) String() string { return strconv.FormatFloat(float64(p)*100, 'g', 6, 64) + "%" }

package discovery

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// ConsulOptions says how to reach Consul, and which service the backends are.
// What is empty comes from the CONSUL_HTTP_* variables of the environment,
// then from Consul's own defaults.
type ConsulOptions struct {
	Address    string // host:port, or with http://, https:// or unix:// before it
	Service    string // of the backends; needed for NewConsul
	Tags       []string
	Datacenter string // "" = the agent's
	Namespace  string // Consul Enterprise
	Partition  string // Consul Enterprise
	TokenFile  string // read again when Consul refuses the token
	CAFile     string
	CertFile   string
	KeyFile    string

	// Policy is what registrations may say about TLS.
	Policy TLSPolicy

	// CacheFile keeps the last good set of backends over a restart, for a start while
	// Consul is away. "" = none is kept.
	CacheFile string

	// Wait is how long a blocking query may block. 0 = 1 min: it bounds how
	// long an agent that hangs goes unnoticed, and costs one request.
	Wait time.Duration
	// Slack is what its answer may take beyond that, and the sixteenth that Consul adds. 0 = 5 s.
	Slack time.Duration
	// Call is how long any other request may take: a leader that hangs holds one until its
	// servers notice. 0 = 3 s, or Slack where that is less.
	Call time.Duration
	// MinBackoff and MaxBackoff bound the wait after an error; it is jittered. 0 = 0.1 s, 10 s.
	MinBackoff, MaxBackoff time.Duration
}

// withDefaults fills in the times.
func (o ConsulOptions) withDefaults() ConsulOptions {
	o.Wait = orDefault(o.Wait, time.Minute)
	o.Slack = orDefault(o.Slack, 5*time.Second)
	o.Call = orDefault(o.Call, min(3*time.Second, o.Slack))
	o.MinBackoff = orDefault(o.MinBackoff, 100*time.Millisecond)
	o.MaxBackoff = orDefault(o.MaxBackoff, 10*time.Second)
	return o
}

// SavedOf names what a set of backends is of: the CacheFile of another service,
// datacenter or set of tags isn't used.
func (o ConsulOptions) SavedOf() string {
	return fmt.Sprintf("service=%q tags=%q datacenter=%q namespace=%q partition=%q",
		o.Service, slices.Sorted(slices.Values(o.Tags)), o.Datacenter, o.Namespace, o.Partition)
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

// maxPlacementConns bounds the connections for placements. An agent refuses
// more than 200 from one address (429), and others on this machine need some.
const maxPlacementConns = 32

// newClient makes a client of its own connections, at most maxConns of them.
func (o *ConsulOptions) newClient(maxConns int) (*api.Client, *http.Transport, error) {
	cfg := api.DefaultConfig()
	set(&cfg.Address, o.Address)
	set(&cfg.Datacenter, o.Datacenter)
	set(&cfg.Namespace, o.Namespace)
	set(&cfg.Partition, o.Partition)
	set(&cfg.TokenFile, o.TokenFile)
	set(&cfg.TLSConfig.CAFile, o.CAFile)
	set(&cfg.TLSConfig.CertFile, o.CertFile)
	set(&cfg.TLSConfig.KeyFile, o.KeyFile)
	cfg.Transport.MaxConnsPerHost = maxConns
	client, err := api.NewClient(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("consul client: %w", err)
	}
	return client, cfg.Transport, nil
}

func set(to *string, value string) {
	if value != "" {
		*to = value
	}
}

// statusCode is the HTTP status that Consul answered, 0 where it is another
// kind of error. The texts of Consul's errors are nothing to rely on.
func statusCode(err error) int {
	var status api.StatusError
	if errors.As(err, &status) {
		return status.Code
	}
	return 0
}

// errFiltered is an answer that leaves out what the token may not read: Consul calls that a
// success, with an empty list in the end, and it says nothing about the backends.
var errFiltered = errors.New("the answer leaves out what the token's ACL policies don't let it read: " +
	`it needs service "NAME" { policy = "read" } and node_prefix "" { policy = "read" }`)

// denied reports whether Consul answers, and the token isn't enough.
func denied(err error) bool {
	code := statusCode(err)
	return code == http.StatusForbidden || code == http.StatusUnauthorized || errors.Is(err, errFiltered)
}

// clip bounds a text that came from outside, for logs and status.
func clip(s string, limit int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// NewClient makes a client of its own connections, at most maxConns of them, for
// what else is asked of the same Consul. A token file is read once: after a refusal a
// new client reads it again.
func (o ConsulOptions) NewClient(maxConns int) (*api.Client, *http.Transport, error) {
	return o.newClient(maxConns)
}

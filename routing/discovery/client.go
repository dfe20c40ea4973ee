package discovery

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
)

// ConsulOptions says how to reach Consul, and which service the backends are. The defaults of empty fields
// are the CONSUL_HTTP_* variables of the environment, then Consul's own defaults.
type ConsulOptions struct {
	Address    string // host:port, or a URL with http://, https:// or unix://
	Service    string // of the backends; required for NewConsul
	Tags       []string
	Datacenter string // "" = the agent's
	Namespace  string // Consul Enterprise
	Partition  string // Consul Enterprise
	TokenFile  string // read again when Consul refuses the token
	CAFile     string
	CertFile   string
	KeyFile    string

	// Policy restricts what registrations may set about TLS.
	Policy TLSPolicy

	// CacheFile is a file with the last good set of backends, for a start while Consul can't be reached. "" =
	// the set isn't saved.
	CacheFile string

	// Wait is how long a blocking query may block. 0 = 1 min. It bounds how long an agent that hangs goes
	// unnoticed.
	Wait time.Duration
	// Slack is how much longer than Wait the answer may take, besides the sixteenth that Consul adds. 0 = 5
	// s.
	Slack time.Duration
	// Call is how long any other request may take: a leader that hangs holds a request until its servers
	// notice. 0 = 3 s, or Slack if that is less.
	Call time.Duration
	// MinBackoff and MaxBackoff bound the wait after an error, which has jitter. 0 = 0.1 s, 10 s.
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

// SavedOf identifies the source of a saved set of backends: the CacheFile of another service, datacenter or
// set of tags isn't used.
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

// maxPlacementConns bounds the connections for placements. An agent refuses more than 200 from one address
// (429), and other programs on this machine need some.
const maxPlacementConns = 32

// newClient returns a client with its own connections, at most maxConns of them.
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

// statusCode returns the HTTP status of Consul's answer, 0 for another kind of error. The texts of Consul's
// errors aren't reliable.
func statusCode(err error) int {
	var status api.StatusError
	if errors.As(err, &status) {
		return status.Code
	}
	return 0
}

// errFiltered means that the answer omits data that the token may not read. Consul reports success and may
// return an empty list, so the answer says nothing about the backends.
var errFiltered = errors.New("the answer leaves out what the token's ACL policies don't let it read: " +
	`it needs service "NAME" { policy = "read" } and node_prefix "" { policy = "read" }`)

// denied says whether Consul answered that the token lacks permissions.
func denied(err error) bool {
	code := statusCode(err)
	return code == http.StatusForbidden || code == http.StatusUnauthorized || errors.Is(err, errFiltered)
}

// NewClient returns a client with its own connections, at most maxConns of them, for other requests to the
// same Consul. A token file is read once: after a refusal the caller makes a new client, which reads it
// again.
func (o ConsulOptions) NewClient(maxConns int) (*api.Client, *http.Transport, error) {
	return o.newClient(maxConns)
}

// consulSource is the source's name in logs and metrics.
const consulSource = "consul"

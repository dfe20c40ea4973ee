package admin

import (
	"context"
	"time"
)

// Mover moves users between backends, for all proxies of the service. An error that is a Refusal is told as it is.
type Mover interface {
	// Drain, Undrain and Move return once this proxy applies the change. With DryRun they only say what would
	// happen.
	Drain(context.Context, DrainRequest) (DrainAnswer, error)
	Undrain(context.Context, UndrainRequest) (UndrainAnswer, error)
	Move(context.Context, MoveRequest) (MoveAnswer, error)
	// Drains returns the progress of this proxy's drains.
	Drains() []Drain
}

// Refusal is why an operator's verb isn't done.
type Refusal struct {
	Status  int // of HTTP
	Code    string
	Message string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// Codes of a Refusal.
const (
	CodeNoCluster  = "no_cluster"      // 409: the proxies don't agree with each other
	CodeNoBackend  = "unknown_backend" // 404
	CodeRefused    = "refused"         // 409: it can't be done as things are
	CodeNotAgreed  = "not_agreed"      // 503: the proxies haven't agreed in time, or this one is cut off
	CodeOnlyDryRun = "only_dry_run"    // 400: all proxies are asked for a dry run only
)

// DrainRequest is the body of POST /v1/drain.
type DrainRequest struct {
	Backend string `json:"backend"` // its name, or its stable_id
	// Within is the time, such as "10m", after which the sessions that couldn't be moved are ended; "": none
	// is ended.
	Within string  `json:"within,omitempty"`
	Rate   float64 `json:"rate,omitempty"` // users a second, over all proxies; 0: cluster.move_rate
	DryRun bool    `json:"dry_run,omitempty"`
	By     string  `json:"by,omitempty"` // who asks, for the log and for other operators
}

// Time is Within.
func (q *DrainRequest) Time() time.Duration {
	d, _ := time.ParseDuration(q.Within) // check has looked
	return d
}

func (q *DrainRequest) check() string {
	q.By = actor(q.By)
	d, err := time.ParseDuration(q.Within)
	switch {
	case q.Backend == "":
		return "backend is missing"
	case q.Within != "" && (err != nil || d < time.Second || d > 30*24*time.Hour):
		return `within: want a time from "1s" to "720h"`
	case q.Rate < 0 || q.Rate > 1e6:
		return "rate: want users a second, from 0 to 1000000"
	}
	return ""
}

func (q *DrainRequest) about() []any {
	return []any{"by", q.By, "backend", q.Backend, "within", q.Within, "rate", q.Rate, "dry_run", q.DryRun}
}

// DrainAnswer is the answer of POST /v1/drain.
type DrainAnswer struct {
	Backend  string `json:"backend"`
	StableID string `json:"stable_id"`
	DryRun   bool   `json:"dry_run"`
	// Users is how many users have connections there by this proxy, Moves where they go: backend → users. "" is for those who have no
	// other backend.
	Users int            `json:"users"`
	Moves map[string]int `json:"moves"`
	// Sessions are this proxy's there, by attachment. Parked ones needn't be moved: they resume at another backend with
	// their next command.
	Sessions map[string]int `json:"sessions"`
}

// UndrainRequest is the body of POST /v1/undrain.
type UndrainRequest struct {
	Backend string `json:"backend"`
	DryRun  bool   `json:"dry_run,omitempty"`
	By      string `json:"by,omitempty"`
}

func (q *UndrainRequest) check() string {
	if q.By = actor(q.By); q.Backend == "" {
		return "backend is missing"
	}
	return ""
}

func (q *UndrainRequest) about() []any {
	return []any{"by", q.By, "backend", q.Backend, "dry_run", q.DryRun}
}

// UndrainAnswer is the answer of POST /v1/undrain.
type UndrainAnswer struct {
	Backend  string `json:"backend"`
	StableID string `json:"stable_id"`
	State    string `json:"state"`  // of the backend now
	Reason   string `json:"reason"` // of the state
	DryRun   bool   `json:"dry_run"`
	// RebalanceRate is how many connected users come back in a second, over all proxies; 0: none does.
	RebalanceRate float64 `json:"rebalance_rate"`
	// Users is how many users with connections by this proxy would come back, Back where they are: backend → users. Only for a dry run.
	Users int            `json:"users,omitempty"`
	Back  map[string]int `json:"back,omitempty"`
}

// Drain asks for POST /v1/drain.
func (c *Client) Drain(ctx context.Context, q DrainRequest) (DrainAnswer, error) {
	return post[DrainAnswer](ctx, c, drainPath, q)
}

// ClusterDrain asks all proxies what a drain would do.
func (c *Client) ClusterDrain(ctx context.Context, q DrainRequest) (Cluster[DrainAnswer], error) {
	q.DryRun = true
	return doAll[DrainAnswer](ctx, c, drainPath, q)
}

// Undrain asks for POST /v1/undrain.
func (c *Client) Undrain(ctx context.Context, q UndrainRequest) (UndrainAnswer, error) {
	return post[UndrainAnswer](ctx, c, undrainPath, q)
}

// ClusterUndrain asks all proxies what the end of a drain would do.
func (c *Client) ClusterUndrain(ctx context.Context, q UndrainRequest) (Cluster[UndrainAnswer], error) {
	q.DryRun = true
	return doAll[UndrainAnswer](ctx, c, undrainPath, q)
}

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Mover moves users between backends, for all proxies of the service. An error that is a Refusal is told as it is.
type Mover interface {
	// Drain, Undrain and Move return once this proxy goes by it. With DryRun they only say what would happen.
	Drain(context.Context, DrainRequest) (DrainAnswer, error)
	Undrain(context.Context, UndrainRequest) (UndrainAnswer, error)
	Move(context.Context, MoveRequest) (MoveAnswer, error)
	// Drains is how far this proxy is with the backends that users leave.
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

const noCluster = "the proxies don't agree on where users are, so users can't be moved while they are connected: write a block cluster { } with discovery \"consul\" " +
	"(one proxy alone may have it, too). Without it put the backend into maintenance in Consul, or set its weight to 0: new users go elsewhere then, and those who are there stay"

// The paths of the verbs. One proxy does them for all; only a dry run is asked of all.
const (
	drainPath   = "/v1/drain"
	undrainPath = "/v1/undrain"
	movePath    = "/v1/move"
)

// moverRoutes are the paths of the verbs, and those that all proxies answer.
func (s *Server) moverRoutes(into map[string]route) {
	for path, serve := range map[string]http.HandlerFunc{
		drainPath: moving(s, "drain", s.opts.Mover != nil, func(ctx context.Context, q *DrainRequest) (DrainAnswer, error) { return s.opts.Mover.Drain(ctx, *q) }),
		undrainPath: moving(s, "undrain", s.opts.Mover != nil, func(ctx context.Context, q *UndrainRequest) (UndrainAnswer, error) {
			return s.opts.Mover.Undrain(ctx, *q)
		}),
		movePath: moving(s, "move", s.opts.Mover != nil, func(ctx context.Context, q *MoveRequest) (MoveAnswer, error) { return s.opts.Mover.Move(ctx, *q) }),
		pausePath: moving(s, "pause", s.opts.Pauser != nil, func(ctx context.Context, q *PauseRequest) (PauseAnswer, error) {
			return s.opts.Pauser.Pause(ctx, *q)
		}),
		resumePath: moving(s, "resume", s.opts.Pauser != nil, func(ctx context.Context, q *ResumeRequest) (PauseAnswer, error) {
			return s.opts.Pauser.Resume(ctx, *q)
		}),
	} {
		r := route{serve: serve, post: true}
		into[path] = r
		if path != resumePath {
			into[clusterPath(path)] = s.clustered(path, route{serve: onlyDry(serve), post: true})
		}
	}
}

// moveRequest is what the bodies of the verbs have in common.
type moveRequest interface {
	// check returns what is wrong with the request, "" nothing.
	check() string
	// about is what the log says of it.
	about() []any
}

// moving is the handler of a verb. Each call is logged. can is false if this proxy can't do it.
func moving[Q any, P interface {
	*Q
	moveRequest
}, A any](s *Server, name string, can bool, do func(context.Context, P) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := P(new(Q))
		if !verb(s, w, r, q) {
			return
		}
		if wrong := q.check(); wrong != "" {
			fail(w, http.StatusBadRequest, CodeBadRequest, wrong)
			return
		}
		if !can {
			fail(w, http.StatusConflict, CodeNoCluster, noCluster)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), kickWithin)
		defer cancel()
		a, err := do(ctx, q)
		s.opts.Log.Warn("admin: "+name, append([]any{"client", r.RemoteAddr, "error", err}, q.about()...)...)
		var refused *Refusal
		switch {
		case err == nil:
			reply(w, http.StatusOK, a)
		case errors.As(err, &refused):
			fail(w, refused.Status, refused.Code, refused.Message)
		default:
			fail(w, http.StatusServiceUnavailable, CodeNotAgreed, err.Error())
		}
	}
}

// onlyDry lets a dry run through. The rest is done by one proxy for all.
func onlyDry(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, again := bodyOf(r)
		var q struct {
			DryRun bool `json:"dry_run"`
		}
		if err := json.Unmarshal(body, &q); err == nil && !q.DryRun {
			fail(w, http.StatusBadRequest, CodeOnlyDryRun, "one proxy does this for all of them: leave out /cluster; all are asked only with \"dry_run\": true")
			return
		}
		serve(w, again)
	}
}

// DrainRequest is the body of POST /v1/drain.
type DrainRequest struct {
	Backend string `json:"backend"` // as people call it, or its stable_id
	// Within is after what time the sessions that couldn't be moved are ended, as "10m"; "": none is.
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
	// Users is how many users have connections there by this proxy, Moves where they go: backend → users. "" is those who can go nowhere.
	Users int            `json:"users"`
	Moves map[string]int `json:"moves"`
	// Sessions are this proxy's there, by attachment. Parked ones are no work: they go elsewhere with their next command.
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
	// Users is how many users with connections by this proxy would come back, Back where they are: backend → users. Only for a dry run.
	Users int            `json:"users,omitempty"`
	Back  map[string]int `json:"back,omitempty"`
}

// Drain is how far one proxy is with a backend that users leave: an operator drains it, or Consul calls it draining.
type Drain struct {
	Backend  string     `json:"backend"`
	StableID string     `json:"stable_id"`
	Operator bool       `json:"operator"` // an operator drains it; else it is in maintenance in Consul
	By       string     `json:"by"`       // who has asked for it
	Since    *time.Time `json:"since"`    // null where no operator drains it
	Deadline *time.Time `json:"deadline"` // when sessions that are left are ended; null: never
	Rate     float64    `json:"rate"`     // users a second, over all proxies
	// Users have connections there by this proxy; Started, how many had when it began here, at Begun.
	Users   int        `json:"users"`
	Started int        `json:"started"`
	Begun   *time.Time `json:"begun"`
	// Ends is when all users have had their first turn; null: it isn't known yet. Those who can't leave then are asked again.
	Ends *time.Time `json:"ends"`
	// Sessions are this proxy's there, by attachment; Held what keeps those that aren't parked, by not_parked's values.
	Sessions map[string]int `json:"sessions"`
	Held     map[string]int `json:"held"`
	Ended    int            `json:"ended"` // users whose sessions were ended since the deadline
	// Words is all of it in words (Progress).
	Words string `json:"words"`
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

// post has one proxy do something.
func post[A any](ctx context.Context, c *Client, path string, q any) (a A, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return a, fmt.Errorf("%s: %w", path, err)
	}
	return a, c.do(ctx, http.MethodPost, path, nil, body, &a)
}

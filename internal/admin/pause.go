package admin

import (
	"context"
	"time"

	"imapproxy/routing"
)

// Pauser pauses backends for a planned restart. An error that is a Refusal is told as it is.
type Pauser interface {
	// Pause and Resume return once this proxy applies the change. With DryRun Pause only says what would
	// happen.
	Pause(context.Context, PauseRequest) (PauseAnswer, error)
	Resume(context.Context, ResumeRequest) (PauseAnswer, error)
	// Pauses returns the backends that are paused.
	Pauses() []Pause
}

// The paths of the verbs.
const (
	pausePath  = "/v1/pause"
	resumePath = "/v1/resume"
)

// DefaultPause is how long a backend is paused if the request doesn't say it.
const DefaultPause = time.Minute

// PauseRequest is the body of POST /v1/pause.
type PauseRequest struct {
	Backend string `json:"backend"`       // its name, or its stable_id
	For     string `json:"for,omitempty"` // how long at most, as "90s"; "": DefaultPause
	DryRun  bool   `json:"dry_run,omitempty"`
	By      string `json:"by,omitempty"` // who asks, for the log and for other operators
}

// Time returns For.
func (q *PauseRequest) Time() time.Duration {
	if q.For == "" {
		return DefaultPause
	}
	d, _ := time.ParseDuration(q.For) // check has looked
	return d
}

func (q *PauseRequest) check() string {
	q.By = actor(q.By)
	d, err := time.ParseDuration(q.For)
	switch {
	case q.Backend == "":
		return "backend is missing"
	case q.For != "" && (err != nil || d < time.Second || d > routing.MaxPause):
		return `for: want a time from "1s" to "` + routing.MaxPause.String() + `"`
	}
	return ""
}

func (q *PauseRequest) about() []any {
	return []any{"by", q.By, "backend", q.Backend, "for", q.Time(), "dry_run", q.DryRun}
}

// ResumeRequest is the body of POST /v1/resume.
type ResumeRequest struct {
	Backend string `json:"backend"`
	By      string `json:"by,omitempty"`
}

func (q *ResumeRequest) check() string {
	if q.By = actor(q.By); q.Backend == "" {
		return "backend is missing"
	}
	return ""
}

func (q *ResumeRequest) about() []any { return []any{"by", q.By, "backend", q.Backend} }

// PauseAnswer is the answer of POST /v1/pause and /v1/resume.
type PauseAnswer struct {
	DryRun bool `json:"dry_run"`
	// Agreed: it holds for all proxies. False: it holds for the proxy that was asked, since the proxies don't
	// agree with each other, or it is the only one.
	Agreed bool `json:"agreed"`
	Pause
}

// Pause asks for POST /v1/pause.
func (c *Client) Pause(ctx context.Context, q PauseRequest) (PauseAnswer, error) {
	return post[PauseAnswer](ctx, c, pausePath, q)
}

// ClusterPause asks all proxies what a pause would hold.
func (c *Client) ClusterPause(ctx context.Context, q PauseRequest) (Cluster[PauseAnswer], error) {
	q.DryRun = true
	return doAll[PauseAnswer](ctx, c, pausePath, q)
}

// Resume asks for POST /v1/resume.
func (c *Client) Resume(ctx context.Context, q ResumeRequest) (PauseAnswer, error) {
	return post[PauseAnswer](ctx, c, resumePath, q)
}

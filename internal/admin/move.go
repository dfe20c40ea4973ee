package admin

import (
	"bytes"
	"context"
	"io"
	"net/http"
)

// MoveRequest is the body of POST /v1/move: a user, and where to, or Auto.
type MoveRequest struct {
	User    string `json:"user"`              // the canonical name
	Backend string `json:"backend,omitempty"` // its name, or its stable_id
	Auto    bool   `json:"auto,omitempty"`    // undo an operator's earlier move: routing chooses the backend
	DryRun  bool   `json:"dry_run,omitempty"`
	By      string `json:"by,omitempty"` // who asks, for the log
}

func (q *MoveRequest) check() string {
	q.By = actor(q.By)
	switch {
	case q.User == "":
		return "user is missing"
	case (q.Backend == "") != q.Auto:
		return "one of backend and auto is needed"
	}
	return ""
}

func (q *MoveRequest) about() []any {
	return []any{"by", q.By, "user", q.User, "backend", q.Backend, "auto", q.Auto, "dry_run", q.DryRun}
}

// MoveAnswer is the answer of POST /v1/move.
type MoveAnswer struct {
	User   string `json:"user"`
	DryRun bool   `json:"dry_run"`
	From   string `json:"from"` // where the user's connections are by this proxy; "": there are none
	To     string `json:"to"`   // where the user goes
	// Override is the backend that an operator has now set for the user, "": none; Before is the earlier one.
	Override string `json:"override"`
	Before   string `json:"before"`
	// Placement is the value that was written to the user's placement in Consul's KV; "": none was.
	Placement string `json:"placement"`
	// Sessions are the user's by this proxy, by attachment.
	Sessions map[string]int `json:"sessions"`
}

// Move asks for POST /v1/move.
func (c *Client) Move(ctx context.Context, q MoveRequest) (MoveAnswer, error) {
	return post[MoveAnswer](ctx, c, movePath, q)
}

// ClusterMove asks all proxies what a move would do.
func (c *Client) ClusterMove(ctx context.Context, q MoveRequest) (Cluster[MoveAnswer], error) {
	q.DryRun = true
	return doAll[MoveAnswer](ctx, c, movePath, q)
}

// bodyOf reads a request's body, and gives the request with the same body again.
func bodyOf(r *http.Request) ([]byte, *http.Request) {
	body, err := io.ReadAll(r.Body)
	again := r.Clone(r.Context())
	again.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err}))
	return body, again
}

// failing is a Reader that gives an error, or the end where it is nil.
type failing struct{ err error }

// Read implements io.Reader.
func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}

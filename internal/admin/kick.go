package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"imapproxy/proxy"
)

// kick is POST /v1/kick: it ends sessions. Each call is logged.
func (s *Server) kick(w http.ResponseWriter, r *http.Request) {
	var k KickRequest
	if !verb(s, w, r, &k) {
		return
	}
	switch {
	case k.User == "" && k.Session == "" && k.Backend == "":
		fail(w, http.StatusBadRequest, CodeBadRequest, "one of user, session and backend is needed")
		return
	case k.Backend != "" && (k.User != "" || k.Session != ""):
		fail(w, http.StatusBadRequest, CodeBadRequest, "backend means all sessions there: leave user and session out")
		return
	case s.opts.Kick == nil:
		fail(w, http.StatusNotFound, CodeNotFound, "this path doesn't exist; docs/admin.md lists the paths")
		return
	}
	accepted(r)
	ctx, cancel := context.WithTimeout(r.Context(), kickWithin)
	defer cancel()
	done := s.opts.Kick(ctx, proxy.Kick{User: k.User, Session: k.Session, Backend: k.Backend, Forget: k.Forget, DryRun: k.DryRun})
	s.audit(r, "admin: kick", nil, "by", actor(k.By), "user", k.User, "session", k.Session, "backend", k.Backend,
		"forget", k.Forget, "dry_run", k.DryRun, "sessions", done.Count, "users", done.Users, "left", done.Left, "warm", done.Warm)
	if done.Sessions == nil {
		done.Sessions = []string{}
	}
	reply(w, http.StatusOK, KickAnswer{User: k.User, DryRun: k.DryRun, Sessions: done.Sessions, Count: done.Count, Users: done.Users, Known: done.Known,
		Left: done.Left, WarmConnections: done.Warm})
}

// KickRequest is the body of POST /v1/kick: a user, a session, a user's session, or a backend.
type KickRequest struct {
	User    string `json:"user,omitempty"`    // the canonical name
	Session string `json:"session,omitempty"` // only this one
	Backend string `json:"backend,omitempty"` // all sessions there
	Forget  bool   `json:"forget,omitempty"`  // warm connections and cached credentials, too
	DryRun  bool   `json:"dry_run,omitempty"` // only say what would be ended
	By      string `json:"by,omitempty"`      // who asks, for the log
}

// KickAnswer is the answer of POST /v1/kick.
type KickAnswer struct {
	User     string   `json:"user"`
	DryRun   bool     `json:"dry_run"`  // nothing was ended
	Sessions []string `json:"sessions"` // ids of those that were ended, 1000 at most
	Count    int      `json:"count"`    // of all of these
	Users    int      `json:"users"`    // to whom they belong
	Known    bool     `json:"known"`    // this proxy knows the session or the backend that was named; for a user alone: true
	// Left is how many of them haven't ended yet, because their clients don't read.
	Left            int `json:"left"`
	WarmConnections int `json:"warm_connections"` // that were closed
}

// Kick asks for POST /v1/kick.
func (c *Client) Kick(ctx context.Context, k KickRequest) (KickAnswer, error) {
	var a KickAnswer
	body, err := json.Marshal(k)
	if err != nil {
		return a, fmt.Errorf("kick: %w", err)
	}
	return a, c.do(ctx, http.MethodPost, "/v1/kick", nil, body, &a)
}

// ClusterKick asks for POST /v1/cluster/kick.
func (c *Client) ClusterKick(ctx context.Context, k KickRequest) (Cluster[KickAnswer], error) {
	return doAll[KickAnswer](ctx, c, "/v1/kick", k)
}

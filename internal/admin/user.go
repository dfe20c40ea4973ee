package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"imapproxy/proxy"
)

// userSessions is how many sessions /v1/user shows.
const userSessions = 100

// user is GET /v1/user: where a user is, and why.
func (s *Server) user(w http.ResponseWriter, r *http.Request) {
	q, ok := parameters(w, r, "user")
	if !ok {
		return
	}
	if q.Get("user") == "" {
		fail(w, http.StatusBadRequest, CodeBadRequest, "user is missing")
		return
	}
	if s.opts.User == nil {
		fail(w, http.StatusNotFound, CodeNotFound, "this path doesn't exist; docs/admin.md lists the paths")
		return
	}
	u := s.opts.User(r.Context(), q.Get("user"))
	found, next := s.opts.Proxy.Sessions(proxy.Filter{User: u.User, Limit: userSessions})
	u.Sessions, u.More = make([]Session, 0, len(found)), next != ""
	for _, i := range found {
		u.Sessions = append(u.Sessions, s.session(i))
	}
	if u.Failures == nil {
		u.Failures = []Failure{}
	}
	reply(w, http.StatusOK, u)
}

// flush is POST /v1/flush: it removes a user's pin and cached credentials. Each call is logged.
func (s *Server) flush(w http.ResponseWriter, r *http.Request) {
	var f FlushRequest
	if !verb(s, w, r, &f) {
		return
	}
	if f.User == "" {
		fail(w, http.StatusBadRequest, CodeBadRequest, "user is missing")
		return
	}
	if s.opts.Flush == nil {
		fail(w, http.StatusNotFound, CodeNotFound, "this path doesn't exist; docs/admin.md lists the paths")
		return
	}
	accepted(r)
	a := s.opts.Flush(f.User)
	s.audit(r, "admin: flush", nil, "by", actor(f.By), "user", f.User, "pin", a.Pin, "warm", a.WarmConnections)
	reply(w, http.StatusOK, a)
}

// FlushRequest is the body of POST /v1/flush.
type FlushRequest struct {
	User string `json:"user"`         // the canonical name
	By   string `json:"by,omitempty"` // who asks, for the log
}

// ClusterUser asks for /v1/cluster/user.
func (c *Client) ClusterUser(ctx context.Context, user string) (Cluster[User], error) {
	return ofAll[User](ctx, c, "/v1/user", url.Values{"user": {user}})
}

// User asks for /v1/user.
func (c *Client) User(ctx context.Context, user string) (User, error) {
	var u User
	return u, c.get(ctx, "/v1/user", url.Values{"user": {user}}, &u)
}

// ClusterFlush asks for POST /v1/cluster/flush.
func (c *Client) ClusterFlush(ctx context.Context, f FlushRequest) (Cluster[FlushAnswer], error) {
	return doAll[FlushAnswer](ctx, c, "/v1/flush", f)
}

// Flush asks for POST /v1/flush.
func (c *Client) Flush(ctx context.Context, f FlushRequest) (FlushAnswer, error) {
	var a FlushAnswer
	body, err := json.Marshal(f)
	if err != nil {
		return a, fmt.Errorf("flush: %w", err)
	}
	return a, c.do(ctx, http.MethodPost, "/v1/flush", nil, body, &a)
}

package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// RemoveRequest is the body of POST /v1/proxies/remove.
type RemoveRequest struct {
	Proxy string `json:"proxy"`        // its id, as /v1/status has it in agreement.proxies
	Force bool   `json:"force"`        // also if it answers
	By    string `json:"by,omitempty"` // who asks, for the log
}

// RemoveAnswer is the answer of POST /v1/proxies/remove.
type RemoveAnswer struct {
	Proxy string `json:"proxy"` // the one that was removed
}

// CodeNotRemoved is the code of an Error: 409, the proxy couldn't be removed.
const CodeNotRemoved = "not_removed"

// remove is POST /v1/proxies/remove: the others no longer take a dead proxy into account. Each call is
// logged.
func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	var q RemoveRequest
	if !verb(s, w, r, &q) {
		return
	}
	switch {
	case q.Proxy == "":
		fail(w, http.StatusBadRequest, CodeBadRequest, "proxy is missing")
		return
	case s.opts.Remove == nil:
		fail(w, http.StatusNotFound, CodeNotFound, "the proxies don't agree with each other: there is nothing that one could be removed from")
		return
	}
	err := s.opts.Remove(r.Context(), q.Proxy, q.Force)
	s.audit(r, "admin: a proxy is removed", err, "by", actor(q.By), "proxy", actor(q.Proxy), "force", q.Force)
	if err != nil {
		fail(w, http.StatusConflict, CodeNotRemoved, err.Error())
		return
	}
	reply(w, http.StatusOK, RemoveAnswer{Proxy: q.Proxy})
}

// Remove asks for POST /v1/proxies/remove.
func (c *Client) Remove(ctx context.Context, q RemoveRequest) (RemoveAnswer, error) {
	var a RemoveAnswer
	body, err := json.Marshal(q)
	if err != nil {
		return a, fmt.Errorf("remove: %w", err)
	}
	return a, c.do(ctx, http.MethodPost, removePath, nil, body, &a)
}

const removePath = "/v1/proxies/remove"

package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode"

	"imapproxy/proxy"
)

// kickWithin is how long POST /v1/kick waits for sessions to be gone.
const kickWithin = 5 * time.Second

// maxActor bounds what a caller says of itself, in bytes.
const maxActor = 100

// kick is POST /v1/kick: it ends a user's sessions. It is the only thing here that changes
// anything, so it needs the token on loopback, too, and each call is logged.
func (s *Server) kick(w http.ResponseWriter, r *http.Request) {
	if s.opts.Token == "" && s.peerToken() == "" {
		fail(w, http.StatusForbidden, CodeNoToken, "this needs a token: write admin { token_file = … } into the configuration and restart the proxy")
		return
	}
	if _, ok := parameters(w, r); !ok {
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		fail(w, http.StatusBadRequest, CodeBadRequest, "send JSON (Content-Type: application/json)")
		return
	}
	var k KickRequest
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&k); err != nil {
		fail(w, http.StatusBadRequest, CodeBadRequest, "the body can't be read: "+err.Error())
		return
	}
	if _, err := d.Token(); err != io.EOF {
		fail(w, http.StatusBadRequest, CodeBadRequest, "more than one value in the body")
		return
	}
	if k.User == "" {
		fail(w, http.StatusBadRequest, CodeBadRequest, "user is missing")
		return
	}
	if s.opts.Kick == nil {
		fail(w, http.StatusNotFound, CodeNotFound, "this path doesn't exist; docs/admin.md lists the paths")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), kickWithin)
	defer cancel()
	done := s.opts.Kick(ctx, proxy.Kick{User: k.User, Session: k.Session, Forget: k.Forget})
	s.opts.Log.Warn("admin: kick", "client", r.RemoteAddr, "by", actor(k.By), "user", k.User, "session", k.Session, "forget", k.Forget,
		"sessions", len(done.Sessions), "left", done.Left, "warm", done.Warm)
	if done.Sessions == nil {
		done.Sessions = []string{}
	}
	reply(w, http.StatusOK, KickAnswer{User: k.User, Sessions: done.Sessions, Left: done.Left, WarmConnections: done.Warm})
}

// actor is who the caller says it is, fit for the log. It proves nothing.
func actor(by string) string {
	by = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(by, "?"))
	if len(by) > maxActor {
		by = strings.ToValidUTF8(by[:maxActor], "")
	}
	return by
}

// KickRequest is the body of POST /v1/kick.
type KickRequest struct {
	User    string `json:"user"`              // the canonical name
	Session string `json:"session,omitempty"` // only this one
	Forget  bool   `json:"forget,omitempty"`  // warm connections and cached credentials, too
	By      string `json:"by,omitempty"`      // who asks, for the log
}

// KickAnswer is the answer of POST /v1/kick.
type KickAnswer struct {
	User     string   `json:"user"`
	Sessions []string `json:"sessions"` // ids of those that were ended
	// Left is how many of them are still on their way out, since their clients read nothing.
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

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// moverRoutes are the paths of the verbs, and those that all proxies answer.
func (s *Server) moverRoutes(into map[string]route) {
	for path, serve := range map[string]http.HandlerFunc{
		drainPath: moving(s, "admin: drain", s.opts.Mover != nil, func(ctx context.Context, q *DrainRequest) (DrainAnswer, error) { return s.opts.Mover.Drain(ctx, *q) }),
		undrainPath: moving(s, "admin: undrain", s.opts.Mover != nil, func(ctx context.Context, q *UndrainRequest) (UndrainAnswer, error) {
			return s.opts.Mover.Undrain(ctx, *q)
		}),
		movePath: moving(s, "admin: move", s.opts.Mover != nil, func(ctx context.Context, q *MoveRequest) (MoveAnswer, error) { return s.opts.Mover.Move(ctx, *q) }),
		pausePath: moving(s, "admin: pause", s.opts.Pauser != nil, func(ctx context.Context, q *PauseRequest) (PauseAnswer, error) {
			return s.opts.Pauser.Pause(ctx, *q)
		}),
		resumePath: moving(s, "admin: resume", s.opts.Pauser != nil, func(ctx context.Context, q *ResumeRequest) (PauseAnswer, error) {
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

// moving is the handler of a verb. Each call is logged as event. can is false if this proxy can't do it.
func moving[Q any, P interface {
	*Q
	moveRequest
}, A any](s *Server, event string, can bool, do func(context.Context, P) (A, error)) http.HandlerFunc {
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
		accepted(r)
		ctx, cancel := context.WithTimeout(r.Context(), kickWithin)
		defer cancel()
		a, err := do(ctx, q)
		s.audit(r, event, err, q.about()...)
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

// moveRequest is what the bodies of the verbs have in common.
type moveRequest interface {
	// check returns what is wrong with the request, "" nothing.
	check() string
	// about is what the log says of it.
	about() []any
}

const noCluster = "the proxies don't agree on where users are, so users can't be moved while they are connected: write a block cluster { } with discovery \"consul\" " +
	"(one proxy alone may have it, too). Without it put the backend into maintenance in Consul, or set its weight to 0: new users go elsewhere then, and those who are there stay"

package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"imapproxy/internal/peers"
)

// clustered returns a route's counterpart below /v1/cluster. This proxy answers the request and sends it to
// each peer at the same time. A request that changes something is sent to peers only once this proxy has found nothing wrong with it
// (accepted): if this proxy refuses the request, no proxy carries it out.
func (s *Server) clustered(path string, r route) route {
	return route{post: r.post, body: r.body, serve: func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			fail(w, http.StatusBadRequest, CodeBadRequest, "the body can't be read: "+err.Error())
			return
		}
		var others chan []peers.Answer // nil until they are asked
		ask := func() {
			if others == nil {
				others = make(chan []peers.Answer, 1)
				go func() { others <- s.askOthers(req, path, body) }() // ends within the peers' time limit; received below
			}
		}
		ctx := context.WithValue(req.Context(), acceptedKey{}, ask)
		if !r.post {
			ask()
		}
		own := recorder{header: http.Header{}, status: http.StatusOK}
		again := req.Clone(ctx)
		again.Body = io.NopCloser(bytes.NewReader(body))
		r.serve(&own, again)
		if own.status == http.StatusOK {
			ask()
		}
		var answers []peers.Answer
		if others != nil {
			answers = <-others
		}
		if own.status != http.StatusOK {
			w.Header().Set("Content-Type", own.header.Get("Content-Type"))
			w.WriteHeader(own.status)
			_, _ = w.Write(own.body.Bytes()) // the client went away
			return
		}
		all := Cluster[json.RawMessage]{Proxies: []FromProxy[json.RawMessage]{{Proxy: s.name(), Address: s.where(), Own: true, Answer: new(json.RawMessage(own.body.Bytes()))}}}
		for _, a := range answers {
			all.Proxies = append(all.Proxies, of(a))
		}
		reply(w, http.StatusOK, all)
	}}
}

// acceptedKey is the key of a func() in the context of a request below /v1/cluster.
type acceptedKey struct{}

// accepted has the other proxies asked, if the request is one for all proxies. The handler of a request that changes something calls it
// when it has found nothing wrong with the request, before it carries the request out.
func accepted(r *http.Request) {
	if ask, ok := r.Context().Value(acceptedKey{}).(func()); ok {
		ask()
	}
}

// askOthers sends a request to the peers.
func (s *Server) askOthers(r *http.Request, path string, body []byte) []peers.Answer {
	if s.opts.Fleet == nil {
		return nil
	}
	q := peers.Request{Method: http.MethodGet, Path: path, Query: r.URL.Query()}
	if r.Method == http.MethodPost {
		q.Method, q.Body, q.More = r.Method, body, kickWithin
	}
	return s.opts.Fleet.All(r.Context(), q)
}

// of converts a peer's answer.
func of(a peers.Answer) FromProxy[json.RawMessage] {
	p := FromProxy[json.RawMessage]{Proxy: a.Peer.Name, Address: a.Peer.Address}
	var said Error
	switch {
	case a.Err != nil:
		p.Error = a.Err.Error()
	case a.Status == http.StatusUnauthorized:
		p.Error = "it refuses this proxy's token: cluster.token_file differs"
	case a.Status == http.StatusNotFound:
		p.Error = "it doesn't know the request: it is of another release"
	case a.Status == http.StatusOK && json.Valid(a.Body):
		p.Answer = new(json.RawMessage(a.Body))
	case json.Unmarshal(a.Body, &said) == nil && said.Error.Message != "":
		p.Error = said.Error.Message
	default:
		p.Error = fmt.Sprintf("its answer can't be understood (HTTP status %d)", a.Status)
	}
	if a.Peer.Down && p.Error != "" {
		p.Error += " (its check fails in Consul)"
	}
	return p
}

// name returns this proxy's name.
func (s *Server) name() string {
	if s.opts.Name != nil {
		return s.opts.Name()
	}
	return s.opts.Proxy.Status().Hostname
}

// where returns the address of this proxy's admin API.
func (s *Server) where() string {
	if a := s.Addr(); a != nil {
		return a.String()
	}
	return s.opts.Address
}

// recorder is an http.ResponseWriter that stores the response.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) { r.status = status }

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// ClusterStatus asks for /v1/cluster/status.
func (c *Client) ClusterStatus(ctx context.Context) (Cluster[Status], error) {
	return ofAll[Status](ctx, c, "/v1/status", nil)
}

// ClusterBackends asks for /v1/cluster/backends.
func (c *Client) ClusterBackends(ctx context.Context) (Cluster[Backends], error) {
	return ofAll[Backends](ctx, c, "/v1/backends", nil)
}

// ClusterSessions asks for one page of /v1/cluster/sessions, and says from where on the next one is, ""
// when there is none. Each proxy has its own pages: the part of theirs behind the shortest comes again.
func (c *Client) ClusterSessions(ctx context.Context, q SessionsQuery) (Cluster[Sessions], string, error) {
	all, err := ofAll[Sessions](ctx, c, "/v1/sessions", q.values())
	next := ""
	for _, p := range all.Proxies {
		if p.Answer != nil && p.Answer.Next != "" && (next == "" || p.Answer.Next < next) {
			next = p.Answer.Next
		}
	}
	if next == "" {
		return all, "", err
	}
	for _, p := range all.Proxies {
		if p.Answer == nil {
			continue
		}
		p.Answer.Next = next
		for i, s := range p.Answer.Sessions {
			if s.ID > next {
				p.Answer.Sessions = p.Answer.Sessions[:i]
				break
			}
		}
	}
	return all, next, err
}

package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
)

// verb reads the body of a POST that changes something. A token is required on loopback, too. If it returns
// false, it has answered the request.
func verb[T any](s *Server, w http.ResponseWriter, r *http.Request, into *T) bool {
	if !s.hasToken(w) {
		return false
	}
	if _, ok := parameters(w, r); !ok {
		return false
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		fail(w, http.StatusBadRequest, CodeBadRequest, "send JSON (Content-Type: application/json)")
		return false
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		fail(w, http.StatusBadRequest, CodeBadRequest, "the body can't be read: "+err.Error())
		return false
	}
	if _, err := d.Token(); err != io.EOF {
		fail(w, http.StatusBadRequest, CodeBadRequest, "more than one value in the body")
		return false
	}
	return true
}

// hasToken says whether a token for operators is configured. If it returns false, it has answered the request.
func (s *Server) hasToken(w http.ResponseWriter) bool {
	if s.opts.Token == "" && s.peerToken() == "" {
		fail(w, http.StatusForbidden, CodeNoToken, "this needs a token: write admin { token_file = … } into the configuration and restart the proxy")
		return false
	}
	return true
}

// parameters reads the query, in which each of the names may occur once. Other names are an error: if a
// mistyped filter were ignored, all sessions would be shown as one user's. If it returns false, it has
// answered the request.
func parameters(w http.ResponseWriter, r *http.Request, names ...string) (url.Values, bool) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		fail(w, http.StatusBadRequest, CodeBadRequest, "the query can't be read: "+err.Error())
		return nil, false
	}
	for name, values := range q {
		if !slices.Contains(names, name) {
			fail(w, http.StatusBadRequest, CodeBadRequest, fmt.Sprintf("there's no parameter %q here", name))
			return nil, false
		}
		if len(values) > 1 {
			fail(w, http.StatusBadRequest, CodeBadRequest, fmt.Sprintf("%s is given twice", name))
			return nil, false
		}
	}
	return q, true
}

// audit logs a call of a verb as event: who has asked for what, and the error if it failed.
func (s *Server) audit(r *http.Request, event string, err error, about ...any) {
	about = append([]any{"client", r.RemoteAddr}, about...)
	if err != nil {
		about = append(about, "error", err)
	}
	s.opts.Log.Warn(event, about...)
}

package admin

import (
	"net/http"

	"imapproxy/internal/peers"
)

// hints is POST /v1/hints: another proxy sends on what backends have told it. It concerns the sessions of
// this proxy and isn't sent on.
func (s *Server) hints(w http.ResponseWriter, r *http.Request) {
	var h peers.Hints
	if !verb(s, w, r, &h) {
		return
	}
	if err := h.Check(); err != nil {
		fail(w, http.StatusBadRequest, CodeBadRequest, err.Error())
		return
	}
	if s.opts.Hints == nil {
		fail(w, http.StatusNotFound, CodeNotFound, "this path doesn't exist; docs/admin.md lists the paths")
		return
	}
	s.opts.Hints(h.Hints)
	reply(w, http.StatusOK, struct{}{})
}

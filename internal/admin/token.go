package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"imapproxy/telemetry"
)

// peerToken returns the token that the other proxies send; "" if there are none.
func (s *Server) peerToken() telemetry.Secret {
	if s.opts.PeerToken == nil {
		return ""
	}
	return s.opts.PeerToken()
}

// authorized compares digests, so that the time taken reveals nothing, not even the token's length. Requests
// that change something always require a token.
func (s *Server) authorized(r *http.Request, post bool) bool {
	if s.opts.Token == "" && (!post || s.peerToken() == "") {
		return true // on loopback; the handler of a POST refuses it itself
	}
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	got, right := sha256.Sum256([]byte(strings.TrimSpace(token))), 0
	for _, known := range []telemetry.Secret{s.opts.Token, s.peerToken()} {
		if known != "" {
			want := sha256.Sum256([]byte(known.Reveal()))
			right |= subtle.ConstantTimeCompare(got[:], want[:])
		}
	}
	if right == 1 {
		proven(r)
		return true
	}
	s.opts.Log.Warn("admin: wrong token", "client", r.RemoteAddr)
	return false
}

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

// access is what a caller may do.
type access int

// What a caller may do. Operators may also read.
const (
	accessNone access = iota
	accessRead
	accessOperator
)

// authorized compares digests, so that the time taken reveals nothing, not even the token's length. Requests
// that are the operator's always require a token.
func (s *Server) authorized(r *http.Request, operator bool) access {
	if s.opts.Token == "" && (!operator || s.peerToken() == "") {
		return accessOperator // on loopback; the handler refuses it itself
	}
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return accessNone
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
		return accessOperator
	}
	if s.opts.ReadToken != "" {
		want := sha256.Sum256([]byte(s.opts.ReadToken.Reveal()))
		if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			proven(r)
			return accessRead
		}
	}
	s.opts.Log.Warn("admin: wrong token", "client", r.RemoteAddr)
	return accessNone
}

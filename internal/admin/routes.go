package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// Paths of lookups by other programs.
const (
	routePath = "/v1/route"
	nginxPath = "/v1/route/nginx"
)

// routeWithin bounds the time of a lookup.
const routeWithin = 10 * time.Second

// whereTo is GET /v1/route: the backend at which a user's mail is served.
func (s *Server) whereTo(w http.ResponseWriter, r *http.Request) {
	q, ok := parameters(w, r, "user")
	if !ok {
		return
	}
	if q.Get("user") == "" {
		fail(w, http.StatusBadRequest, CodeBadRequest, "user is missing")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), routeWithin)
	defer cancel()
	answer, err := s.opts.Route(ctx, q.Get("user"))
	switch {
	case errors.Is(err, ErrNoSuchName):
		fail(w, http.StatusBadRequest, CodeBadRequest, err.Error())
	case err != nil:
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, CodeUnavailable, err.Error())
	default:
		reply(w, http.StatusOK, answer)
	}
}

// whereToNginx is what nginx's mail proxy asks by auth_http (ngx_mail_auth_http_module). It checks no password: nginx passes it to
// the backend, which does. An answer is 200 in any case; Auth-Status says more.
func (s *Server) whereToNginx(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	refuse := func(status string) {
		h.Set("Auth-Status", status)
		w.WriteHeader(http.StatusOK)
	}
	port := r.Header.Get("Auth-Protocol")
	switch {
	case r.Header.Get("Auth-Method") != "plain":
		refuse("this method isn't supported here, only plain is")
		return
	case port != "imap" && port != "pop3":
		refuse("this protocol isn't known here, only imap and pop3 are")
		return
	}
	name, err := url.PathUnescape(r.Header.Get("Auth-User"))
	if err != nil || name == "" {
		refuse("invalid user name")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), routeWithin)
	defer cancel()
	answer, err := s.opts.Route(ctx, name)
	if errors.Is(err, ErrNoSuchName) {
		refuse("invalid user name")
		return
	}
	var at netip.Addr
	if err == nil {
		at, err = addressOf(ctx, answer.Host)
	}
	if err != nil {
		s.opts.Log.Warn("a lookup by nginx has failed", "client", r.RemoteAddr, "error", err)
		h.Set("Auth-Wait", "1")
		refuse("temporarily unavailable")
		return
	}
	h.Set("Auth-Status", "OK")
	h.Set("Auth-Server", at.String())
	h.Set("Auth-Port", strconv.Itoa(answer.Ports[port]))
	h.Set("Auth-User", answer.User)
	w.WriteHeader(http.StatusOK)
}

// addressOf returns a host's IP address, since nginx takes no names.
func addressOf(ctx context.Context, host string) (netip.Addr, error) {
	if at, err := netip.ParseAddr(host); err == nil {
		return at, nil
	}
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	return all[0].Unmap(), nil
}

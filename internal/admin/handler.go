package admin

import (
	"cmp"
	"embed"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"imapproxy/internal/peers"
)

//go:embed page
var page embed.FS // files, not state

// eventsPath is the path to which backends post changes of mailboxes.
const eventsPath = "/v1/events"

func (s *Server) routes() map[string]route {
	r := map[string]route{
		"/":            {serve: s.file("index.html", "text/html; charset=utf-8"), open: true},
		"/page.js":     {serve: s.file("page.js", "text/javascript; charset=utf-8"), open: true},
		"/page.css":    {serve: s.file("page.css", "text/css; charset=utf-8"), open: true},
		"/healthz":     {serve: s.healthz, open: true},
		"/readyz":      {serve: s.readyz, open: true},
		"/v1/status":   {serve: s.status},
		"/v1/backends": {serve: s.backends},
		"/v1/sessions": {serve: s.sessions},
		"/v1/user":     {serve: s.user},
		"/v1/kick":     {serve: s.kick, post: true},
		"/v1/flush":    {serve: s.flush, post: true},
	}
	for _, script := range []string{"tiles", "lists", "verbs", "backends"} {
		r["/"+script+".js"] = route{serve: s.file(script+".js", "text/javascript; charset=utf-8"), open: true}
	}
	for _, icon := range []string{"well", "warning", "critical", "unknown"} {
		r["/"+icon+".svg"] = route{serve: s.file(icon+".svg", "image/svg+xml"), open: true}
	}
	s.pastRoutes(r)
	if s.opts.Past != nil {
		r[topPath] = route{serve: s.top}
	}
	if s.opts.Config != nil {
		r[configPath] = route{serve: s.config}
	}
	for _, path := range slices.Collect(maps.Keys(r)) {
		if strings.HasPrefix(path, "/v1/") {
			r[clusterPath(path)] = s.clustered(path, r[path])
		}
	}
	if s.opts.Route != nil { // any proxy answers for all
		r[routePath], r[nginxPath] = route{serve: s.whereTo}, route{serve: s.whereToNginx}
	}
	r[removePath] = route{serve: s.remove, post: true} // one proxy does it for all
	// What comes here concerns this proxy alone, so there is no counterpart below /v1/cluster.
	r[peers.HintsPath] = route{serve: s.hints, post: true, body: peers.MaxHintBytes}
	s.moverRoutes(r)
	s.debugRoutes(r)
	if s.opts.Metrics != nil {
		r["/metrics"] = route{serve: s.opts.Metrics.ServeHTTP}
	}
	return r
}

// Handler returns the API's HTTP handler.
func (s *Server) Handler() http.Handler {
	routes := s.routes()
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		if !s.hostAllowed(r.Host) {
			fail(w, http.StatusForbidden, CodeForbidden, "ask for this address by an IP address of the loopback, or as localhost")
			return
		}
		route, ok := routes[r.URL.Path]
		if !ok {
			fail(w, http.StatusNotFound, CodeNotFound, "this path doesn't exist; docs/admin.md lists the paths")
			return
		}
		if !route.takes(r.Method) {
			w.Header().Set("Allow", route.methods())
			fail(w, http.StatusMethodNotAllowed, CodeMethod, "here it is "+route.methods())
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, cmp.Or(route.body, maxBodyBytes))
		if !route.open {
			operator := route.post || route.owner
			switch s.authorized(r, operator) {
			case accessNone:
				w.Header().Set("WWW-Authenticate", `Bearer realm="imapproxy admin"`)
				fail(w, http.StatusUnauthorized, CodeUnauthorized, "send the token of admin's token_file: Authorization: Bearer TOKEN")
				return
			case accessRead:
				if operator {
					fail(w, http.StatusForbidden, CodeReadOnly, "the token of read_token_file may only read: send the token of admin's token_file")
					return
				}
			}
		}
		if from := r.Header.Get(peers.HeaderFrom); from != "" && from == s.opts.ID && !route.open {
			fail(w, peers.StatusSelf, CodeSelf, "this proxy has asked itself")
			return
		}
		route.serve(w, r)
	})
	if s.opts.Events == nil {
		return api
	}
	// Events have their own token, bounds and methods. Any Host is allowed: a web page in a browser that was
	// led here doesn't know the token.
	events := proving(s.opts.Events)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == eventsPath {
			events.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// setHeaders sets the headers of all answers. There's no CORS: no other site's page may read an answer.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// hostAllowed prevents that a web page whose name was made to resolve to 127.0.0.1 (DNS rebinding) reads
// answers that require no token: on loopback the Host header must name the loopback. Elsewhere a token is
// always required, which such a page doesn't have.
func (s *Server) hostAllowed(host string) bool {
	if !s.loopback {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback()
}

// file serves an embedded file. The page contains no data; its script requests them.
func (s *Server) file(name, contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		b, err := page.ReadFile("page/" + name)
		if err != nil {
			panic("admin: " + name + " isn't embedded") // the build decides it
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(b) // an error means that the client is gone
	}
}

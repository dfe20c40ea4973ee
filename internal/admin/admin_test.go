package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
	"imapproxy/proxy"
	"imapproxy/routing"
)

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

var (
	_ admin.Proxy  = (*proxy.Server)(nil)
	_ admin.Router = (*routing.Router)(nil)
)

func now() time.Time { return time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) }

// fake is a proxy and a router with three sessions and two backends.
type fake struct {
	draining, starting, saved atomic.Bool
	filter                    atomic.Pointer[proxy.Filter]
}

func (f *fake) Status() proxy.Status {
	return proxy.Status{Version: "1.2", Hostname: "imap.example.org", Started: now().Add(-time.Hour), Draining: f.draining.Load(),
		Listeners: map[string]string{"imaps": "127.0.0.1:993", "imap": "127.0.0.1:143"}, Sessions: 3,
		Attachments: map[string]int64{"attached": 2, "none": 1}, BackendConns: 2}
}

func (f *fake) Sessions(q proxy.Filter) ([]proxy.SessionInfo, string) {
	f.filter.Store(&q)
	all := []proxy.SessionInfo{
		{ID: "s1", User: "alice", Backend: "b1", Why: "rendezvous", Client: netip.MustParseAddrPort("192.0.2.1:5000"), Listener: "imaps", TLS: true, Compressed: true,
			State: "selected", Attachment: "attached", NotParked: "command", Idle: true, InFlight: 1, Started: now(), LastActivity: now(), BytesIn: 1, BytesOut: 2, Commands: 3},
		{ID: "s2", User: "bob", Backend: "b2"}, {ID: "s3"},
	}
	var out []proxy.SessionInfo
	for _, s := range all {
		if (q.User == "" || q.User == s.User) && (q.Backend == "" || q.Backend == s.Backend) && s.ID > q.After {
			out = append(out, s)
		}
	}
	if q.Limit > 0 && len(out) > q.Limit {
		return out[:q.Limit], out[q.Limit-1].ID
	}
	return out, ""
}

func (f *fake) Ready() bool { return !f.starting.Load() }

func (f *fake) LastGood() time.Time {
	if f.starting.Load() {
		return time.Time{}
	}
	return now().Add(-time.Minute)
}

func (f *fake) FromSaved() bool { return f.saved.Load() }

func (f *fake) Backends() []routing.BackendStatus {
	return []routing.BackendStatus{
		{Backend: routing.Backend{ID: "b1", Address: "10.0.0.1:143", Weight: 100, State: routing.Up}, Since: now(), Pins: 2, Sessions: 1},
		{Backend: routing.Backend{ID: "b2", Address: "10.0.0.2:143", State: routing.Down, Tags: []string{"ssd"}, Reason: "critical"},
			Failures: 2, LastFailure: now(), LastError: "refused", Suspect: true},
	}
}

func options(f *fake) admin.Options {
	return admin.Options{Address: "127.0.0.1:0", Proxy: f, Router: f, Now: now,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "imapproxy_sessions 3") })}
}

func handler(t *testing.T, o admin.Options) http.Handler {
	t.Helper()
	s, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s.Handler()
}

// ask makes a request with headers "Name: value"; Host and the method may be
// among them.
func ask(h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "127.0.0.1:8143"
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		switch name {
		case "Host":
			r.Host = value
		case "Method":
			r.Method = value
		default:
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return v
}

func TestAnswersShowWhatTheRoomsSay(t *testing.T) {
	f := &fake{}
	h := handler(t, options(f))

	st := decode[admin.Status](t, ask(h, "/v1/status"))
	if st.State != "ready" || st.UptimeSeconds != 3600 || st.Listeners[0].Name != "imap" || st.Sessions != 3 || st.BackendConnections != 2 ||
		!reflect.DeepEqual(st.Backends, map[string]int{"up": 1, "down": 1, "draining": 0}) || *st.Discovery.AgeSeconds != 60 || st.Attachments["attached"] != 2 {
		t.Errorf("status: %+v", st)
	}
	backends := decode[admin.Backends](t, ask(h, "/v1/backends")).Backends
	if b := backends[0]; b.ID != "b1" || b.State != "up" || b.Pins != 2 || b.LastFailure != nil || b.Tags == nil {
		t.Errorf("b1: %+v", b)
	}
	if b := backends[1]; b.State != "down" || b.Reason != "critical" || b.LastError != "refused" || !b.Suspect || b.Tags[0] != "ssd" {
		t.Errorf("b2: %+v", b)
	}
	sessions := decode[admin.Sessions](t, ask(h, "/v1/sessions"))
	want := admin.Session{ID: "s1", User: "alice", Backend: "b1", Why: "rendezvous", Client: "192.0.2.1:5000", Listener: "imaps", TLS: true, Compressed: true,
		State: "selected", Attachment: "attached", NotParked: "command", Idle: true, InFlight: 1, Started: now(), LastActivity: now(), BytesIn: 1, BytesOut: 2, Commands: 3}
	if len(sessions.Sessions) != 3 || sessions.Next != "" || sessions.Sessions[0] != want {
		t.Errorf("sessions: %+v", sessions)
	}
	if len(sessions.Reasons) != 1 || sessions.Reasons["command"] == "" {
		t.Errorf("reasons: %q", sessions.Reasons)
	}
	if q := *f.filter.Load(); q.Limit != 100 {
		t.Errorf("a page unasked for: %+v", q)
	}
	if w := ask(h, "/metrics"); w.Code != 200 || !strings.Contains(w.Body.String(), "imapproxy_sessions 3") {
		t.Errorf("metrics: %d %s", w.Code, w.Body)
	}
	if w := ask(h, "/v1/status", "Method: HEAD"); w.Code != 200 {
		t.Errorf("HEAD: %d", w.Code)
	}
	o := options(f)
	o.Metrics = nil
	if w := ask(handler(t, o), "/metrics"); w.Code != 404 {
		t.Errorf("metrics that there aren't: %d", w.Code)
	}
}

func TestSessionsAreFilteredAndPaged(t *testing.T) {
	h := handler(t, options(&fake{}))
	for query, want := range map[string]string{
		"?user=alice": "s1 ", "?backend=b2": "s2 ", "?user=alice&backend=b2": " ", "?limit=2": "s1 s2 s2", "?limit=2&after=s2": "s3 ", "?limit=1000": "s1 s2 s3 ",
	} {
		s := decode[admin.Sessions](t, ask(h, "/v1/sessions"+query))
		got := ""
		for _, i := range s.Sessions {
			got += i.ID + " "
		}
		if got == "" {
			got = " "
		}
		if got+s.Next != want {
			t.Errorf("%s: %q, want %q", query, got+s.Next, want)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?limit=x", "?usr=alice", "?user=a&user=b", "?a;b", "?user=%zz"} {
		w := ask(h, "/v1/sessions"+query)
		if e := decode[admin.Error](t, w); w.Code != 400 || e.Error.Code != admin.CodeBadRequest || e.Error.Message == "" {
			t.Errorf("%s: %d %+v", query, w.Code, e)
		}
	}
	if w := ask(h, "/v1/status?user=x"); w.Code != 400 {
		t.Errorf("a parameter of another path: %d", w.Code)
	}
}

func TestParkingIsShownWhereItIsOn(t *testing.T) {
	o := options(&fake{})
	if st := decode[admin.Status](t, ask(handler(t, o), "/v1/status")); st.Parking != nil {
		t.Errorf("off: %+v", st.Parking)
	}
	want := admin.Parking{WatchConnections: 3, WarmConnections: 2, Mailboxes: map[string]int64{"push": 4}, Hints: map[string]int64{"push": 5}, Resyncs: map[string]int64{"ok": 6}}
	o.Parking = func() *admin.Parking { return nil }
	if st := decode[admin.Status](t, ask(handler(t, o), "/v1/status")); st.Parking != nil {
		t.Errorf("off: %+v", st.Parking)
	}
	o.Parking = func() *admin.Parking { return &want }
	if st := decode[admin.Status](t, ask(handler(t, o), "/v1/status")); st.Parking == nil || !reflect.DeepEqual(*st.Parking, want) {
		t.Errorf("on: %+v", st.Parking)
	}
}

// Events come from backends: with a method, a Host and a size that the API itself
// refuses. Whether they may is for their own handler to say.
func TestEventsReachTheirHandler(t *testing.T) {
	o := options(&fake{})
	body := strings.Repeat("x", 100<<10)
	post := func(h http.Handler, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Host = "proxy1.example.org"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	if w := post(handler(t, o), "/v1/events"); w.Code == http.StatusNoContent {
		t.Error("there are no events, and one is taken")
	}
	o.Events = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got, err := io.ReadAll(r.Body); err != nil || string(got) != body {
			t.Errorf("the body: %d octets, %v", len(got), err)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	h := handler(t, o)
	if w := post(h, "/v1/events"); w.Code != http.StatusNoContent {
		t.Errorf("an event: %d %s", w.Code, w.Body)
	}
	for _, path := range []string{"/v1/status", "/v1/events/", "/"} {
		if w := post(h, path); w.Code != http.StatusForbidden {
			t.Errorf("%s: %d", path, w.Code)
		}
	}

	// On an address of their own there is nothing else.
	s, err := admin.NewEvents(admin.Options{Address: "127.0.0.1:0", Events: o.Events})
	if err != nil {
		t.Fatal(err)
	}
	addr, stop := run(t, s)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	base := "http://" + addr
	for path, want := range map[string]int{"/v1/events": http.StatusNoContent, "/v1/status": http.StatusNotFound, "/healthz": http.StatusOK} {
		sent := body
		if want != http.StatusNoContent {
			sent = "{}" // what isn't read may be answered by a reset
		}
		res, err := client.Post(base+path, "application/json", strings.NewReader(sent))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, res.Status, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	f := &fake{}
	h := handler(t, options(f))
	check := func(ready int, reason string) {
		t.Helper()
		if w := ask(h, "/healthz"); w.Code != 200 || !decode[admin.Health](t, w).OK {
			t.Errorf("healthz: %d", w.Code)
		}
		w := ask(h, "/readyz")
		if v := decode[admin.Health](t, w); w.Code != ready || v.OK != (ready == 200) || !strings.Contains(v.Reason, reason) {
			t.Errorf("readyz: %d %+v", w.Code, v)
		}
	}
	check(200, "")
	f.starting.Store(true)
	check(503, "starting")
	if st := decode[admin.Status](t, ask(h, "/v1/status")); st.State != "starting" || st.Discovery.LastGood != nil {
		t.Errorf("status: %+v", st)
	}
	f.starting.Store(false)
	f.saved.Store(true)
	if st := decode[admin.Status](t, ask(h, "/v1/status")); st.State != "ready" || !st.Discovery.Saved || *st.Discovery.AgeSeconds != 60 {
		t.Errorf("with the set from disk: %+v", st.Discovery)
	}
	f.draining.Store(true)
	check(503, "draining")
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	h := handler(t, options(&fake{}))
	for _, path := range []string{"/", "/v1/sessions", "/metrics", "/healthz"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
			w := ask(h, path, "Method: "+method, "Origin: https://evil.example")
			if e := decode[admin.Error](t, w); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" || e.Error.Code != admin.CodeMethod {
				t.Errorf("%s %s: %d %+v", method, path, w.Code, e)
			}
			for name := range w.Header() {
				if strings.HasPrefix(name, "Access-Control") {
					t.Errorf("CORS: %s", name)
				}
			}
		}
	}
	for _, path := range []string{"/v1", "/v1/status/", "/page/index.html", "/../admin.go", "//"} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host, r.URL.Path = "localhost", path
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestOffLoopbackATokenIsRequired(t *testing.T) {
	for _, addr := range []string{":8143", "0.0.0.0:8143", "[::]:8143", "192.0.2.7:8143"} {
		o := options(&fake{})
		o.Address = addr
		if _, err := admin.New(o); !errors.Is(err, admin.ErrNoToken) {
			t.Errorf("%s: %v", addr, err)
		}
		o.Token = "s3cret"
		h := handler(t, o)
		for headers, want := range map[string]int{
			"": 401, "Authorization: Bearer s3cret": 200, "Authorization: bearer s3cret": 200, "Authorization: Bearer s3cre": 401,
			"Authorization: Bearer ": 401, "Authorization: Basic s3cret": 401, "Authorization: s3cret": 401,
		} {
			if w := ask(h, "/v1/sessions", "Host: imap.example.org", headers); w.Code != want {
				t.Errorf("%q: %d, want %d", headers, w.Code, want)
			} else if want == 401 && (w.Header().Get("WWW-Authenticate") == "" || decode[admin.Error](t, w).Error.Code != admin.CodeUnauthorized) {
				t.Errorf("%q: %v", headers, w.Header())
			}
		}
		for _, open := range []string{"/healthz", "/readyz", "/", "/page.js"} {
			if w := ask(h, open, "Host: x"); w.Code != 200 {
				t.Errorf("%s: %d", open, w.Code)
			}
		}
		for _, closed := range []string{"/metrics", "/v1/status", "/v1/backends"} {
			if w := ask(h, closed, "Host: x"); w.Code != 401 {
				t.Errorf("%s: %d", closed, w.Code)
			}
		}
	}
	for _, bad := range []string{"", "nonsense", "127.0.0.1", "127.0.0.1:http-not"} {
		o := options(&fake{})
		o.Address = bad
		if _, err := admin.New(o); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestOnLoopbackTheHostMustBeTheLoopback(t *testing.T) {
	h := handler(t, options(&fake{}))
	for host, want := range map[string]int{
		"127.0.0.1:8143": 200, "localhost:8143": 200, "LOCALHOST": 200, "[::1]:8143": 200, "[::1]": 200, "127.9.9.9": 200,
		"evil.example:8143": 403, "": 403, "localhost.evil.example": 403, "192.0.2.1:8143": 403, "127.0.0.1.evil.example": 403,
	} {
		if w := ask(h, "/v1/sessions", "Host: "+host); w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
	}
}

func TestThePageHoldsNoDataAndRefersToNothingElsewhere(t *testing.T) {
	h := handler(t, options(&fake{}))
	w := ask(h, "/")
	if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("headers: %v", w.Header())
	}
	text := w.Body.String()
	for _, path := range []string{"/page.js", "/page.css"} {
		if !strings.Contains(text, path[1:]) {
			t.Errorf("the page has no %s", path)
		}
		text += ask(h, path).Body.String()
	}
	for _, bad := range []string{"http://", "https://", "innerHTML", "onclick=\"", "style=\"", "alice"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
}

// The page's script finds each of its elements, and reads no field that no answer has.
func TestThePageFitsTheAnswers(t *testing.T) {
	h := handler(t, options(&fake{}))
	text, script := ask(h, "/").Body.String(), ask(h, "/page.js").Body.String()
	for _, id := range regexp.MustCompile(`\$\("([a-z]+)"\)|rows\("([a-z]+)"`).FindAllStringSubmatch(script, -1) {
		if !strings.Contains(text, `id="`+id[1]+id[2]+`"`) {
			t.Errorf("the page has no element %s%s", id[1], id[2])
		}
	}
	known := map[string]bool{}
	for _, answer := range []any{admin.Cluster[admin.Status]{}, admin.Cluster[admin.Backends]{}, admin.Sessions{}, admin.Error{}} {
		fieldsOf(reflect.TypeOf(answer), known)
	}
	reads := regexp.MustCompile(`\b(?:status|backends|sessions|s|b|p|q|l|agreed|proxy|agreement|parking|discovery|reload|body|answer|answered)\.([a-z_]+)`)
	ofScript := []string{"json", "ok", "status", "filter", "find", "map", "concat", "length", "some"} // JavaScript's own
	for _, field := range reads.FindAllStringSubmatch(script, -1) {
		if !known[field[1]] && !slices.Contains(ofScript, field[1]) {
			t.Errorf("the script reads %s, and no answer has that", field[0])
		}
	}
	// All proxies are shown, in a part of their own that is hidden where there is one.
	for _, part := range []string{`<section id="fleet" hidden>`, `id="proxies"`, `<section id="leaving" hidden>`, `id="drains"`, `<section id="moving" hidden>`, `id="moves"`} {
		if !strings.Contains(text, part) {
			t.Errorf("the page has no %s", part)
		}
	}
	if n := strings.Count(script, `get("v1/cluster/status")`); n != 1 || strings.Contains(script, "await showFleet") {
		t.Errorf("the proxies are asked for in %d places, or waited for", n)
	}
}

// fieldsOf collects the JSON names of a type's fields.
func fieldsOf(t reflect.Type, known map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		fieldsOf(t.Elem(), known)
	case reflect.Struct:
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if name != "" {
				known[name] = true
				fieldsOf(t.Field(i).Type, known)
			}
		}
	}
}

// serve runs a server and returns its address and a function that stops it and returns Serve's error.
func serve(t *testing.T, o admin.Options) (addr string, stop func() error) {
	t.Helper()
	s, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, s)
}

// run is serve for a server that has been made.
func run(t *testing.T, s *admin.Server) (addr string, stop func() error) {
	t.Helper()
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(cancel)
	return s.Addr().String(), func() error { cancel(); return <-ended }
}

func TestClientReadsWhatServerWrites(t *testing.T) {
	o := options(&fake{})
	o.Token = "s3cret"
	addr, stop := serve(t, o)
	c := &admin.Client{Address: addr, Token: "s3cret"}
	if st, err := c.Status(t.Context()); err != nil || st.Hostname != "imap.example.org" {
		t.Errorf("status: %+v, %v", st, err)
	}
	if b, err := c.Backends(t.Context()); err != nil || len(b.Backends) != 2 {
		t.Errorf("backends: %+v, %v", b, err)
	}
	s, err := c.Sessions(t.Context(), admin.SessionsQuery{Limit: 1, After: "s1", User: "bob"})
	if err != nil || len(s.Sessions) != 1 || s.Sessions[0].User != "bob" {
		t.Errorf("sessions: %+v, %v", s, err)
	}
	if _, err := c.Sessions(t.Context(), admin.SessionsQuery{Limit: 5000}); err == nil || !strings.Contains(err.Error(), "limit: want") {
		t.Errorf("a page too large: %v", err)
	}
	c.Token = "wrong"
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), admin.CodeUnauthorized) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("a wrong token: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "is the proxy running?") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestShutdownLetsARequestEnd(t *testing.T) {
	in, out := make(chan struct{}), make(chan struct{})
	o := options(&fake{})
	o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(in)
		<-out
		fmt.Fprint(w, "whole")
	})
	addr, stop := serve(t, o)
	got := make(chan string, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Get("http://" + addr + "/metrics")
		if err != nil {
			got <- err.Error()
			return
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		got <- string(b)
	}()
	<-in
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	select {
	case err := <-stopped:
		t.Errorf("stopped within a request: %v", err)
	default:
	}
	close(out)
	if g := <-got; g != "whole" {
		t.Errorf("the request got %q", g)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	addr, stop := serve(t, options(&fake{}))
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// it may be refused before all of it is sent
	_, _ = fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	if err := c.SetReadDeadline(time.Now().Add(imaptest.DefaultTimeout)); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(c)
	if len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.1 431") {
		t.Errorf("64 KiB of headers: %q", b)
	}
}

func TestTheManualNamesEverything(t *testing.T) {
	b, err := os.ReadFile("../../docs/admin.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(b)
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/status", "/v1/backends", "/v1/sessions", "/v1/user", "/v1/config", "/v1/kick", "/v1/flush", "/v1/proxies/remove", "/v1/drain", "/v1/undrain", "/v1/move", "/v1/cluster/drain", "/v1/cluster/move"} {
		if !strings.Contains(manual, path) {
			t.Errorf("docs/admin.md has no %s", path)
		}
	}
	for _, v := range []any{admin.Config{}, admin.Disk{}, admin.ConfigChange{}, admin.ChangedFile{}, admin.Status{}, admin.Proxying{}, admin.Cluster[admin.Status]{}, admin.FromProxy[admin.Status]{}, admin.User{}, admin.Pin{}, admin.Failure{}, admin.KickRequest{}, admin.KickAnswer{}, admin.FlushRequest{}, admin.FlushAnswer{}, admin.DrainRequest{}, admin.DrainAnswer{}, admin.UndrainRequest{}, admin.UndrainAnswer{}, admin.MoveRequest{}, admin.MoveAnswer{}, admin.Drain{}, admin.RemoveRequest{}, admin.RemoveAnswer{}, admin.Agreement{}, admin.AgreedPeer{}, admin.Listener{}, admin.Discovery{}, admin.Backends{}, admin.Backend{}, admin.BackendLately{}, admin.Lasting{}, admin.Sessions{}, admin.Session{}, admin.Health{}, admin.Error{}, admin.ErrorBody{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || !strings.Contains(manual, "`"+name+"`") {
				t.Errorf("docs/admin.md has no `%s` (%T)", name, v)
			}
		}
	}
	for _, code := range []string{admin.CodeBadRequest, admin.CodeUnauthorized, admin.CodeForbidden, admin.CodeNotFound, admin.CodeMethod, admin.CodeSelf, admin.CodeNotRemoved, admin.CodeNoCluster, admin.CodeNoBackend, admin.CodeRefused, admin.CodeNotAgreed, admin.CodeOnlyDryRun} {
		if !strings.Contains(manual, "`"+code+"`") {
			t.Errorf("docs/admin.md has no `%s`", code)
		}
	}
}

package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/peers"
	"imapproxy/proxy"
)

// mover records what it is asked for.
type mover struct {
	mu    sync.Mutex
	asked []any
	err   error
}

func (m *mover) note(q any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, q)
	return m.err
}

// all is what it was asked for since the last call.
func (m *mover) all() []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.asked
	m.asked = nil
	return all
}

func (m *mover) Drain(_ context.Context, q admin.DrainRequest) (admin.DrainAnswer, error) {
	return admin.DrainAnswer{Backend: "imap1", StableID: "b1", DryRun: q.DryRun, Users: 3, Moves: map[string]int{"imap2": 3}, Sessions: map[string]int{"attached": 2}}, m.note(q)
}

func (m *mover) Undrain(_ context.Context, q admin.UndrainRequest) (admin.UndrainAnswer, error) {
	return admin.UndrainAnswer{Backend: "imap1", StableID: "b1", State: "up"}, m.note(q)
}

func (m *mover) Move(_ context.Context, q admin.MoveRequest) (admin.MoveAnswer, error) {
	return admin.MoveAnswer{User: q.User, DryRun: q.DryRun, From: "imap1", To: "imap2", Override: "imap2", Sessions: map[string]int{"parked": 1}}, m.note(q)
}

func (m *mover) Drains() []admin.Drain {
	return []admin.Drain{{Backend: "imap1", StableID: "b1", Operator: true, By: "jane", Since: new(now()), Users: 7, Started: 9, Sessions: map[string]int{"parked": 5}, Held: map[string]int{"command": 1}}}
}

func (m *mover) Pause(_ context.Context, q admin.PauseRequest) (admin.PauseAnswer, error) {
	return admin.PauseAnswer{DryRun: q.DryRun, Agreed: true, Pause: m.Pauses()[0]}, m.note(q)
}

func (m *mover) Resume(_ context.Context, q admin.ResumeRequest) (admin.PauseAnswer, error) {
	return admin.PauseAnswer{Agreed: true, Pause: m.Pauses()[0]}, m.note(q)
}

func (m *mover) Pauses() []admin.Pause {
	return []admin.Pause{{Backend: "imap1", StableID: "b1", By: "jane", Until: new(now()), Sessions: map[string]int{"parked": 5}, Held: map[string]int{"command": 1}, Connections: 2}}
}

func TestVerbsThatMoveUsers(t *testing.T) {
	m := &mover{}
	var logs bytes.Buffer
	o := options(&fake{})
	o.Log, o.Token, o.Mover, o.Pauser = slog.New(slog.NewTextHandler(&logs, nil)), "s3cret", m, m
	post := func(path, token, body string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1"+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler(t, o).ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		name, path, token, body string
		want                    int
		code                    string
	}{
		{"another token", "/v1/drain", "other", `{"backend":"imap1"}`, 401, admin.CodeUnauthorized},
		{"no backend", "/v1/drain", "s3cret", `{"by":"jane"}`, 400, admin.CodeBadRequest},
		{"a mistyped name", "/v1/drain", "s3cret", `{"backend":"imap1","whithin":"1m"}`, 400, admin.CodeBadRequest},
		{"a time without a unit", "/v1/drain", "s3cret", `{"backend":"imap1","within":"10"}`, 400, admin.CodeBadRequest},
		{"no time", "/v1/drain", "s3cret", `{"backend":"imap1","within":"-1m"}`, 400, admin.CodeBadRequest},
		{"a year", "/v1/drain", "s3cret", `{"backend":"imap1","within":"8760h"}`, 400, admin.CodeBadRequest},
		{"a negative rate", "/v1/drain", "s3cret", `{"backend":"imap1","rate":-1}`, 400, admin.CodeBadRequest},
		{"a rate beyond all", "/v1/drain", "s3cret", `{"backend":"imap1","rate":1e300}`, 400, admin.CodeBadRequest},
		{"an undrain of nothing", "/v1/undrain", "s3cret", `{}`, 400, admin.CodeBadRequest},
		{"a pause of nothing", "/v1/pause", "s3cret", `{}`, 400, admin.CodeBadRequest},
		{"a pause for an hour", "/v1/pause", "s3cret", `{"backend":"imap1","for":"1h"}`, 400, admin.CodeBadRequest},
		{"a pause without a unit", "/v1/pause", "s3cret", `{"backend":"imap1","for":"60"}`, 400, admin.CodeBadRequest},
		{"a resume of nothing", "/v1/resume", "s3cret", `{}`, 400, admin.CodeBadRequest},
		{"a pause by all proxies", "/v1/cluster/pause", "s3cret", `{"backend":"imap1"}`, 400, admin.CodeOnlyDryRun},
		{"a resume by all proxies", "/v1/cluster/resume", "s3cret", `{"backend":"imap1"}`, 404, admin.CodeNotFound},
		{"no user", "/v1/move", "s3cret", `{"backend":"imap1"}`, 400, admin.CodeBadRequest},
		{"to nowhere", "/v1/move", "s3cret", `{"user":"ann"}`, 400, admin.CodeBadRequest},
		{"to two places", "/v1/move", "s3cret", `{"user":"ann","backend":"imap1","auto":true}`, 400, admin.CodeBadRequest},
		{"by all proxies", "/v1/cluster/drain", "s3cret", `{"backend":"imap1"}`, 400, admin.CodeOnlyDryRun},
		{"by all proxies", "/v1/cluster/move", "s3cret", `{"user":"ann","auto":true}`, 400, admin.CodeOnlyDryRun},
		{"by all proxies, too long", "/v1/cluster/move", "s3cret", `{"dry_run":true,"user":"` + strings.Repeat("a", 4096) + `"}`, 400, admin.CodeBadRequest},
		{"by all proxies", "/v1/cluster/undrain", "s3cret", `{"backend":"imap1"}`, 400, admin.CodeOnlyDryRun},
	} {
		w := post(c.path, c.token, c.body)
		if e := decode[admin.Error](t, w); w.Code != c.want || e.Error.Code != c.code {
			t.Errorf("%s: %d %+v", c.name, w.Code, e)
		}
	}
	if asked := m.all(); asked != nil {
		t.Fatalf("nothing was to be done: %+v", asked)
	}

	for _, c := range []struct {
		path, body string
		want       any
	}{
		{"/v1/drain", `{"backend":"imap1","within":"10m","rate":5,"by":"jane\n"}`, admin.DrainRequest{Backend: "imap1", Within: "10m", Rate: 5, By: "jane?"}},
		{"/v1/cluster/drain", `{"backend":"imap1","dry_run":true}`, admin.DrainRequest{Backend: "imap1", DryRun: true}},
		{"/v1/undrain", `{"backend":"imap1","by":"jane"}`, admin.UndrainRequest{Backend: "imap1", By: "jane"}},
		{"/v1/move", `{"user":"ann","backend":"imap2"}`, admin.MoveRequest{User: "ann", Backend: "imap2"}},
		{"/v1/move", `{"user":"ann","auto":true}`, admin.MoveRequest{User: "ann", Auto: true}},
		{"/v1/pause", `{"backend":"imap1","for":"90s","by":"jane"}`, admin.PauseRequest{Backend: "imap1", For: "90s", By: "jane"}},
		{"/v1/cluster/pause", `{"backend":"imap1","dry_run":true}`, admin.PauseRequest{Backend: "imap1", DryRun: true}},
		{"/v1/resume", `{"backend":"imap1"}`, admin.ResumeRequest{Backend: "imap1"}},
	} {
		if w := post(c.path, "s3cret", c.body); w.Code != 200 {
			t.Errorf("%s %s: %d %s", c.path, c.body, w.Code, w.Body)
		}
		if asked := m.all(); !reflect.DeepEqual(asked, []any{c.want}) {
			t.Errorf("%s %s: %+v", c.path, c.body, asked)
		}
	}
	if q := (&admin.DrainRequest{Within: "10m"}); q.Time() != 10*time.Minute {
		t.Error(q.Time())
	}
	for _, part := range []string{`msg="admin: drain" client=`, `by="jane?" backend=imap1 within=10m rate=5 dry_run=false`, `msg="admin: undrain"`, `msg="admin: move"`, `msg="admin: pause"`, "for=1m30s", `msg="admin: resume"`, "user=ann backend=imap2"} {
		if part = strings.ReplaceAll(part, `"jane?"`, "jane?"); !strings.Contains(logs.String(), part) {
			t.Errorf("%s isn't in %s", part, logs.String())
		}
	}

	m.err = &admin.Refusal{Status: 409, Code: admin.CodeRefused, Message: "it is down"}
	if w := post("/v1/move", "s3cret", `{"user":"ann","backend":"imap2"}`); w.Code != 409 || decode[admin.Error](t, w).Error != (admin.ErrorBody{Code: admin.CodeRefused, Message: "it is down"}) {
		t.Errorf("%d", w.Code)
	}
	m.err = errors.New("not within the time given")
	if w := post("/v1/drain", "s3cret", `{"backend":"imap2"}`); w.Code != 503 || decode[admin.Error](t, w).Error.Code != admin.CodeNotAgreed {
		t.Errorf("%d", w.Code)
	}
	b := decode[admin.Backends](t, ask(handler(t, o), "/v1/backends", "Authorization: Bearer s3cret"))
	if len(b.Drains) != 1 || b.Drains[0].Held["command"] != 1 || b.Drains[0].Users != 7 {
		t.Errorf("%+v", b.Drains)
	}

	if len(b.Pauses) != 1 || b.Pauses[0].Connections != 2 || b.Pauses[0].Held["command"] != 1 {
		t.Errorf("%+v", b.Pauses)
	}
	if q := (&admin.PauseRequest{}); q.Time() != admin.DefaultPause {
		t.Error(q.Time())
	}

	o.Mover, o.Pauser = nil, nil
	w := post("/v1/drain", "s3cret", `{"backend":"imap1"}`)
	if e := decode[admin.Error](t, w); w.Code != 409 || e.Error.Code != admin.CodeNoCluster || !strings.Contains(e.Error.Message, "cluster { }") {
		t.Errorf("%d %+v", w.Code, e)
	}
	b = decode[admin.Backends](t, ask(handler(t, o), "/v1/backends", "Authorization: Bearer s3cret"))
	if b.Drains == nil || len(b.Drains) != 0 || b.Pauses == nil || len(b.Pauses) != 0 {
		t.Errorf("%+v, %+v", b.Drains, b.Pauses)
	}
}

// A dry run asks all proxies; the verb itself one alone.
func TestADryRunAsksAllProxies(t *testing.T) {
	m1, m2 := &mover{}, &mover{}
	one, of1 := member(t, "p1", func(o *admin.Options) { o.Mover, o.Pauser = m1, m1 })
	two, of2 := member(t, "p2", func(o *admin.Options) { o.Mover, o.Pauser = m2, m2 })
	all := []peers.Peer{{Name: "proxy-p1", Address: one}, {Name: "proxy-p2", Address: two}}
	of1.Found(all)
	of2.Found(all)
	c := &admin.Client{Address: one, Token: "of-p1"}
	dry, err := c.ClusterDrain(t.Context(), admin.DrainRequest{Backend: "imap1"})
	if err != nil || len(dry.Proxies) != 2 || dry.Proxies[1].Answer == nil || !dry.Proxies[1].Answer.DryRun || dry.Proxies[1].Answer.Moves["imap2"] != 3 {
		t.Fatalf("%+v, %v", dry, err)
	}
	move, err := c.ClusterMove(t.Context(), admin.MoveRequest{User: "ann", Backend: "imap2"})
	if err != nil || len(move.Proxies) != 2 || move.Proxies[1].Answer == nil || move.Proxies[1].Answer.Sessions["parked"] != 1 {
		t.Fatalf("%+v, %v", move, err)
	}
	pause, err := c.ClusterPause(t.Context(), admin.PauseRequest{Backend: "imap1"})
	if err != nil || len(pause.Proxies) != 2 || pause.Proxies[1].Answer == nil || pause.Proxies[1].Answer.Connections != 2 {
		t.Fatalf("%+v, %v", pause, err)
	}
	for i, m := range []*mover{m1, m2} {
		if asked := m.all(); !reflect.DeepEqual(asked, []any{admin.DrainRequest{Backend: "imap1", DryRun: true}, admin.MoveRequest{User: "ann", Backend: "imap2", DryRun: true}, admin.PauseRequest{Backend: "imap1", DryRun: true}}) {
			t.Errorf("proxy %d: %+v", i, asked)
		}
	}
	if _, err := c.Drain(t.Context(), admin.DrainRequest{Backend: "imap1"}); err != nil {
		t.Error(err)
	}
	if _, err := c.Undrain(t.Context(), admin.UndrainRequest{Backend: "imap1"}); err != nil {
		t.Error(err)
	}
	if _, err := c.Move(t.Context(), admin.MoveRequest{User: "ann", Auto: true}); err != nil {
		t.Error(err)
	}
	if _, err := c.Pause(t.Context(), admin.PauseRequest{Backend: "imap1"}); err != nil {
		t.Error(err)
	}
	if _, err := c.Resume(t.Context(), admin.ResumeRequest{Backend: "imap1"}); err != nil {
		t.Error(err)
	}
	if n1, n2 := len(m1.all()), len(m2.all()); n1 != 5 || n2 != 0 {
		t.Errorf("%d and %d", n1, n2)
	}
}

// What the proxy that was asked refuses is done by no other proxy: neither a verb that isn't a dry run, nor a body that isn't sent as JSON.
func TestWhatOneProxyRefusesNoneDoes(t *testing.T) {
	m := &mover{}
	var done atomic.Int32
	change := func(o *admin.Options) {
		o.Mover, o.Pauser = m, m
		o.Kick = func(context.Context, proxy.Kick) proxy.Kicked { done.Add(1); return proxy.Kicked{} }
		o.Flush = func(string) admin.FlushAnswer { done.Add(1); return admin.FlushAnswer{} }
	}
	one, of1 := member(t, "p1", change)
	two, _ := member(t, "p2", change)
	of1.Found([]peers.Peer{{Name: "p1", Address: one}, {Name: "p2", Address: two}})
	const kind = "application/json"
	for _, c := range []struct{ path, kind, body, code string }{
		{"drain", kind, `{"backend":"imap1"}`, admin.CodeOnlyDryRun},
		{"undrain", kind, `{"backend":"imap1","dry_run":false}`, admin.CodeOnlyDryRun},
		{"move", kind, `{"user":"ann","backend":"imap1"}`, admin.CodeOnlyDryRun},
		{"pause", kind, `{"backend":"imap1"}`, admin.CodeOnlyDryRun},
		{"drain", "text/plain", `{"backend":"imap1","dry_run":true}`, admin.CodeBadRequest},
		{"kick", "text/plain", `{"user":"ann"}`, admin.CodeBadRequest},
		{"flush", "text/plain", `{"user":"ann"}`, admin.CodeBadRequest},
		{"kick", kind, `{"user":"ann","backend":"imap1"}`, admin.CodeBadRequest},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+one+"/v1/cluster/"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", c.kind)
		r.Header.Set("Authorization", "Bearer of-p1")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var e admin.Error
		if err := json.NewDecoder(answer.Body).Decode(&e); err != nil || e.Error.Code != c.code {
			t.Errorf("%s %s: %+v, %v", c.path, c.body, e, err)
		}
		_ = answer.Body.Close()
	}
	if asked := m.all(); asked != nil || done.Load() != 0 {
		t.Errorf("done in spite of that: %+v, and %d more", asked, done.Load())
	}
}

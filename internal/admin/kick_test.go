package admin_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"imapproxy/internal/admin"
	"imapproxy/proxy"
)

// post sends a body of this kind, with a token unless that is "".
func post(t *testing.T, o admin.Options, method, path, token, kind, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1"+path, strings.NewReader(body))
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	handler(t, o).ServeHTTP(w, r)
	return w
}

func TestKickNeedsATokenAndIsLogged(t *testing.T) {
	var asked []proxy.Kick
	var logs bytes.Buffer
	o := options(&fake{})
	o.Log = slog.New(slog.NewTextHandler(&logs, nil))
	o.Kick = func(_ context.Context, k proxy.Kick) proxy.Kicked {
		asked = append(asked, k)
		return proxy.Kicked{Sessions: []string{"s1"}, Count: 1, Users: 1, Warm: 2}
	}
	const body = `{"user":"alice","forget":true,"by":"root\nat=night"}`
	for _, c := range []struct {
		name, own, method, token, kind, body string
		want                                 int
		code                                 string
	}{
		{"no token_file", "", "POST", "", "application/json", body, 403, admin.CodeNoToken},
		{"no token", "s3cret", "POST", "", "application/json", body, 401, admin.CodeUnauthorized},
		{"another token", "s3cret", "POST", "other", "application/json", body, 401, admin.CodeUnauthorized},
		{"GET", "s3cret", "GET", "s3cret", "", "", 405, admin.CodeMethod},
		{"a form, as a web page can send", "s3cret", "POST", "s3cret", "application/x-www-form-urlencoded", body, 400, admin.CodeBadRequest},
		{"no user", "s3cret", "POST", "s3cret", "application/json", `{"forget":true}`, 400, admin.CodeBadRequest},
		{"a backend and a user", "s3cret", "POST", "s3cret", "application/json", `{"user":"alice","backend":"b1"}`, 400, admin.CodeBadRequest},
		{"a mistyped name", "s3cret", "POST", "s3cret", "application/json", `{"user":"alice","sesion":"s1"}`, 400, admin.CodeBadRequest},
		{"two bodies", "s3cret", "POST", "s3cret", "application/json", body + body, 400, admin.CodeBadRequest},
		{"too long", "s3cret", "POST", "s3cret", "application/json", `{"user":"` + strings.Repeat("a", 4096) + `"}`, 400, admin.CodeBadRequest},
	} {
		o.Token = "" // of its type
		if c.own != "" {
			o.Token = "s3cret"
		}
		w := post(t, o, c.method, "/v1/kick", c.token, c.kind, c.body)
		if e := decode[admin.Error](t, w); w.Code != c.want || e.Error.Code != c.code {
			t.Errorf("%s: %d %+v", c.name, w.Code, e)
		}
		if c.want == 405 && w.Header().Get("Allow") != http.MethodPost {
			t.Errorf("Allow: %q", w.Header().Get("Allow"))
		}
	}
	if len(asked) != 0 {
		t.Fatalf("nobody was to be kicked: %+v", asked)
	}
	w := post(t, o, "POST", "/v1/kick", "s3cret", "application/json; charset=utf-8", body)
	if a := decode[admin.KickAnswer](t, w); w.Code != 200 || a.User != "alice" || len(a.Sessions) != 1 || a.WarmConnections != 2 {
		t.Errorf("%d %+v", w.Code, a)
	}
	if len(asked) != 1 || asked[0] != (proxy.Kick{User: "alice", Forget: true}) {
		t.Errorf("%+v", asked)
	}
	line := logs.String()[strings.LastIndex(strings.TrimSpace(logs.String()), "\n")+1:]
	for _, part := range []string{`msg="admin: kick"`, "client=", `by="root?at=night"`, "user=alice", "sessions=1", "warm=2"} {
		if !strings.Contains(line, part) {
			t.Errorf("%s isn't in %s", part, line)
		}
	}

	addr, _ := serve(t, o)
	c := &admin.Client{Address: addr, Token: "s3cret"}
	if a, err := c.Kick(t.Context(), admin.KickRequest{User: "alice", Session: "s1"}); err != nil || len(a.Sessions) != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	c.Token = "wrong"
	if _, err := c.Kick(t.Context(), admin.KickRequest{User: "alice"}); err == nil || !strings.Contains(err.Error(), admin.CodeUnauthorized) {
		t.Errorf("a wrong token: %v", err)
	}
}

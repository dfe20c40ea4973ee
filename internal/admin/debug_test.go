package admin_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"testing"

	"imapproxy/internal/admin"
)

// with sends a request that has a token, and returns the answer.
func with(t *testing.T, o admin.Options, method, path, token string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader("{}"))
	r.Host = "localhost"
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	handler(t, o).ServeHTTP(w, r)
	return w
}

func TestTheReadersTokenReadsAndChangesNothing(t *testing.T) {
	o := options(&fake{})
	o.Token, o.ReadToken = "s3cret", "only-reads"
	o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })
	o.Config = func() admin.Config { return admin.Config{} }
	for _, path := range []string{"/v1/status", "/v1/backends", "/v1/sessions", "/v1/config", "/metrics", "/v1/cluster/status"} {
		if w := with(t, o, http.MethodGet, path, "only-reads"); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if w := with(t, o, http.MethodGet, path, "other"); w.Code != http.StatusUnauthorized {
			t.Errorf("%s with a wrong token: %d", path, w.Code)
		}
	}
	refused := func(method, path string) {
		t.Helper()
		w := with(t, o, method, path, "only-reads")
		if e := decode[admin.Error](t, w); w.Code != http.StatusForbidden || e.Error.Code != admin.CodeReadOnly {
			t.Errorf("%s %s: %d %+v", method, path, w.Code, e)
		}
	}
	for _, path := range []string{"/v1/kick", "/v1/flush", "/v1/drain", "/v1/undrain", "/v1/move", "/v1/pause", "/v1/resume", "/v1/hints", "/v1/proxies/remove", "/v1/cluster/kick", "/v1/cluster/flush"} {
		refused(http.MethodPost, path)
	}
	for _, path := range []string{"/debug/pprof/goroutine", "/debug/pprof/heap", "/debug/pprof/profile"} {
		refused(http.MethodGet, path)
	}
	o.ReadToken = ""
	if w := with(t, o, http.MethodGet, "/v1/status", "only-reads"); w.Code != http.StatusUnauthorized {
		t.Errorf("a token that there isn't: %d", w.Code)
	}
}

func TestProfilesAreTheOperators(t *testing.T) {
	o := options(&fake{})
	if e := decode[admin.Error](t, with(t, o, http.MethodGet, "/debug/pprof/goroutine", "")); e.Error.Code != admin.CodeNoToken {
		t.Errorf("without token_file: %+v", e)
	}
	o.Token = "s3cret"
	for _, path := range []string{"goroutine", "profile?seconds=1"} {
		if w := with(t, o, http.MethodGet, "/debug/pprof/"+path, ""); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without a token: %d", path, w.Code)
		}
	}
	if w := with(t, o, http.MethodGet, "/debug/pprof/goroutine?debug=2", "s3cret"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "TestProfilesAreTheOperators") {
		t.Errorf("the goroutines: %d %.200s", w.Code, w.Body)
	}
	for _, name := range []string{"goroutine", "heap", "allocs", "mutex", "block", "threadcreate"} {
		if w := with(t, o, http.MethodGet, "/debug/pprof/"+name, "s3cret"); w.Code != http.StatusOK || !bytes.HasPrefix(w.Body.Bytes(), []byte{0x1f, 0x8b}) {
			t.Errorf("%s: %d, not gzip", name, w.Code)
		}
	}
	for _, path := range []string{"goroutine?debug=3", "heap?seconds=1", "profile?seconds=0", "profile?seconds=26", "profile?seconds=x"} {
		if w := with(t, o, http.MethodGet, "/debug/pprof/"+path, "s3cret"); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/trace"} {
		if w := with(t, o, http.MethodGet, path, "s3cret"); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Fatal(err)
	}
	w := with(t, o, http.MethodGet, "/debug/pprof/profile?seconds=1", "s3cret")
	pprof.StopCPUProfile()
	if e := decode[admin.Error](t, w); w.Code != http.StatusConflict || e.Error.Code != admin.CodeRefused {
		t.Errorf("during another CPU profile: %d %+v", w.Code, e)
	}
	if w := with(t, o, http.MethodGet, "/debug/pprof/profile?seconds=1", "s3cret"); w.Code != http.StatusOK || !bytes.HasPrefix(w.Body.Bytes(), []byte{0x1f, 0x8b}) {
		t.Errorf("the CPU profile: %d", w.Code)
	}
}

package peers_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/peers"
)

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

// proxy is an admin API that records the ids of the askers and their questions.
func proxy(t *testing.T, id string) *httptest.Server {
	s := httptest.NewServer(answering(id))
	t.Cleanup(s.Close)
	return s
}

func answering(id string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Header.Get("Authorization") != "Bearer s3cret":
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, "{}")
		case r.Header.Get(peers.HeaderFrom) == id:
			w.WriteHeader(peers.StatusSelf)
		default:
			fmt.Fprintf(w, `{"id":%q,"path":%q}`, id, r.URL.String())
		}
	}
}

func host(s *httptest.Server) string { return s.Listener.Addr().String() }

func fleet(t *testing.T, o peers.Options, all ...peers.Peer) *peers.Fleet {
	o.Self, o.Token = "p1", "s3cret"
	f := peers.New(o)
	t.Cleanup(f.Close)
	f.Found(all)
	return f
}

func TestEachPeerAnswersButOneself(t *testing.T) {
	one, two := proxy(t, "p1"), proxy(t, "p2")
	closed := proxy(t, "p3")
	gone := host(closed)
	closed.Close()
	f := fleet(t, peers.Options{}, peers.Peer{Name: "one", Address: host(one)}, peers.Peer{Name: "two", Address: host(two)},
		peers.Peer{Name: "gone", Address: gone}, peers.Peer{Name: "silent"})
	for range 2 { // the second time each proxy knows which peer it is itself
		all := f.All(t.Context(), peers.Request{Method: http.MethodGet, Path: "/v1/status", Query: map[string][]string{"user": {"a&b"}}})
		if len(all) != 3 || all[0].Peer.Name != "two" || string(all[0].Body) != `{"id":"p2","path":"/v1/status?user=a%26b"}` {
			t.Fatalf("%+v", all)
		}
		if all[1].Err == nil || !strings.Contains(all[1].Err.Error(), "refused") || strings.Contains(all[1].Err.Error(), "Get") {
			t.Errorf("one that is gone: %v", all[1].Err)
		}
		if all[2].Err == nil || !strings.Contains(all[2].Err.Error(), "names no admin address") {
			t.Errorf("one without an address: %v", all[2].Err)
		}
	}
	if left := f.Peers(); len(left) != 3 {
		t.Errorf("oneself is still among them: %+v", left)
	}
	f.Found([]peers.Peer{{Name: "new", Address: host(one)}}) // another process may have the address now
	if left := f.Peers(); len(left) != 1 {
		t.Errorf("%+v", left)
	}
}

// A slow peer delays none of the others.
func TestOneThatDoesNotAnswerIsNotWaitedFor(t *testing.T) {
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(slow.Close)
	quick := proxy(t, "p2")
	f := fleet(t, peers.Options{Within: time.Second, AtOnce: 2}, peers.Peer{Name: "a", Address: host(slow)}, peers.Peer{Name: "b", Address: host(slow)},
		peers.Peer{Name: "c", Address: host(slow)}, peers.Peer{Name: "d", Address: host(quick)})
	all := f.All(t.Context(), peers.Request{Method: http.MethodGet, Path: "/"})
	for _, a := range all[:3] {
		if a.Err == nil || !strings.Contains(a.Err.Error(), "in time") {
			t.Errorf("%s: %v", a.Peer.Name, a.Err)
		}
	}
	if all[3].Err != nil {
		t.Errorf("the quick one: %v", all[3].Err)
	}
}

// At most AtOnce peers are asked at a time.
func TestNotAllAreAskedAtOnce(t *testing.T) {
	var asked, most atomic.Int32
	both := make(chan struct{})
	two := sync.OnceFunc(func() { close(both) })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		if n == 2 {
			two()
		}
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-both
		asked.Add(-1) // before the answer, after which the next may come
		answering("p2")(w, r)
	}))
	t.Cleanup(s.Close)
	f := fleet(t, peers.Options{AtOnce: 2, Within: time.Minute}, slices.Repeat([]peers.Peer{{Name: "a", Address: host(s)}}, 6)...)
	for _, a := range f.All(t.Context(), peers.Request{Method: http.MethodGet, Path: "/"}) {
		if a.Err != nil {
			t.Error(a.Err)
		}
	}
	if most.Load() != 2 {
		t.Errorf("%d at once", most.Load())
	}
}

func TestTheTokenGoesNowhereElse(t *testing.T) {
	var heard atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { heard.Add(1) }))
	t.Cleanup(other.Close)
	leads := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(leads.Close)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	t.Cleanup(web.Close)
	f := fleet(t, peers.Options{}, peers.Peer{Name: "a", Address: host(leads)}, peers.Peer{Name: "b", Address: host(web)})
	all := f.All(t.Context(), peers.Request{Method: http.MethodGet, Path: "/"})
	if all[0].Status != http.StatusTemporaryRedirect || heard.Load() != 0 {
		t.Errorf("a redirect was followed: %+v", all[0])
	}
	if all[1].Err == nil || !strings.Contains(all[1].Err.Error(), "isn't the admin API") {
		t.Errorf("a web server: %+v", all[1])
	}
}

// Over TLS, a peer whose certificate has another issuer doesn't receive the token.
func TestOverTLSTheCertificateIsVerified(t *testing.T) {
	var heard atomic.Int32
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		heard.Add(1)
		answering("p2")(w, r)
	}))
	t.Cleanup(s.Close)
	to := peers.Peer{Name: "two", Address: host(s)}
	right := x509.NewCertPool()
	right.AddCert(s.Certificate())
	f := fleet(t, peers.Options{TLS: &tls.Config{RootCAs: x509.NewCertPool()}}, to)
	if a := f.Ask(t.Context(), to, peers.Request{Method: http.MethodGet, Path: "/"}); a.Err == nil || heard.Load() != 0 {
		t.Errorf("an unknown authority: %+v", a)
	}
	f.Reload(peers.Options{Self: "p1", Token: "s3cret", TLS: &tls.Config{RootCAs: right}})
	if a := f.Ask(t.Context(), to, peers.Request{Method: http.MethodGet, Path: "/"}); a.Err != nil || a.Status != 200 {
		t.Errorf("the right one: %+v", a)
	}
	f.Reload(peers.Options{Self: "p2", Token: "s3cret", TLS: &tls.Config{RootCAs: right}})
	if a := f.Ask(t.Context(), to, peers.Request{Method: http.MethodGet, Path: "/"}); !errors.Is(a.Err, peers.ErrSelf) {
		t.Errorf("oneself: %+v", a)
	}
}

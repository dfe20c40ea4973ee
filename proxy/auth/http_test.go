package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// service runs an HTTP service and returns the source that asks it.
func service(t *testing.T, o HTTPOptions, h http.HandlerFunc) *HTTP {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	o.URL = server.URL + "/auth?key=in-the-url"
	s, err := NewHTTP(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var asksAsAlice = Credentials{User: "alice@example.org", Password: "s cret%\r\nAuth-Status: OK\x7f\xfc", Mechanism: MechanismPlain,
	Client: netip.MustParseAddr("::ffff:192.0.2.7"), TLS: true, Attempt: 3}

func TestHTTPAsksAsNginxDoes(t *testing.T) {
	var seen http.Header
	var uri, host string
	s := service(t, HTTPOptions{Headers: map[string]string{"X-Auth-Key": "known"}}, func(w http.ResponseWriter, r *http.Request) {
		seen, uri, host = r.Header, r.Method+" "+r.RequestURI, r.Host
		w.Header().Set("Auth-Status", "OK")
	})
	want(t, s.Authenticate(t.Context(), asksAsAlice), Accepted{})
	for name, value := range map[string]string{
		"Auth-Method": "plain", "Auth-User": "alice@example.org", "Auth-Pass": "s%20cret%25%0D%0AAuth-Status:%20OK%7F\xfc",
		"Auth-Protocol": "imap", "Auth-Login-Attempt": "3", "Client-Ip": "192.0.2.7", "Auth-Ssl": "on", "X-Auth-Key": "known",
	} {
		if got := seen.Values(name); len(got) != 1 || got[0] != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	if len(seen) != 8 || uri != "GET /auth?key=in-the-url" || host == "" {
		t.Errorf("%s with %d headers: %v", uri, len(seen), seen)
	}
	c := asksAsAlice
	c.TLS, c.Client = false, netip.Addr{}
	want(t, s.Authenticate(t.Context(), c), Accepted{})
	if seen.Get("Auth-Ssl") != "" || seen.Get("Client-Ip") != "" {
		t.Errorf("what isn't known is sent: %v", seen)
	}
}

func TestHTTPVerdicts(t *testing.T) {
	names := Names{DefaultDomain: "example.org", Lowercase: true, RefuseSeparators: "*"}
	for _, c := range []struct {
		what   string
		status int
		header map[string]string
		want   Verdict // Unavailable: any
	}{
		{"nothing but OK", 200, map[string]string{"Auth-Status": "OK"}, Accepted{}},
		{"an address", 200, map[string]string{"Auth-Status": "OK", "Auth-Server": "10.0.0.1", "Auth-Port": "143"}, Accepted{Placement: "10.0.0.1:143"}},
		{"an address of IPv6", 200, map[string]string{"Auth-Status": "OK", "Auth-Server": "2001:db8::1", "Auth-Port": "143"}, Accepted{Placement: "[2001:db8::1]:143"}},
		{"a name", 200, map[string]string{"Auth-Status": "OK", "Auth-Server": "b1"}, Accepted{Placement: "b1"}},
		{"a port that is none", 200, map[string]string{"Auth-Status": "OK", "Auth-Server": "10.0.0.1", "Auth-Port": "143x"}, Unavailable{}},
		{"a port alone", 200, map[string]string{"Auth-Status": "OK", "Auth-Port": "143"}, Unavailable{}},
		{"another user and a password", 200, map[string]string{"Auth-Status": "OK", "Auth-User": "U17", "Auth-Pass": "of%20it"}, Accepted{User: "u17", Password: "of%20it"}},
		{"a user that is none", 200, map[string]string{"Auth-Status": "OK", "Auth-User": "a b"}, Unavailable{}},
		{"a user with a separator", 200, map[string]string{"Auth-Status": "OK", "Auth-User": "alice*master"}, Unavailable{}},
		{"a text", 200, map[string]string{"Auth-Status": "Invalid login or password", "Auth-Wait": "3"}, Rejected{Reason: ReasonBadPassword, Wait: 3 * time.Second}},
		{"a wait too long", 200, map[string]string{"Auth-Status": "no", "Auth-Wait": "86400"}, Rejected{Reason: ReasonBadPassword, Wait: maxAuthWait}},
		{"a wait that is none", 200, map[string]string{"Auth-Status": "no", "Auth-Wait": "-1"}, Rejected{Reason: ReasonBadPassword}},
		{"ok in small letters is a text, as for nginx", 200, map[string]string{"Auth-Status": "ok"}, Rejected{Reason: ReasonBadPassword}},
		{"not known", 200, map[string]string{"Auth-Status": "User unknown."}, Unknown{}},
		{"not known or wrong", 200, map[string]string{"Auth-Status": "Unknown user or wrong password"}, Rejected{Reason: ReasonBadPassword}},
		{"locked", 200, map[string]string{"Auth-Status": "Account is LOCKED"}, Rejected{Reason: ReasonAccountDisabled}},
		{"its database is down", 200, map[string]string{"Auth-Status": "Temporary server problem, try again later", "Auth-Wait": "10"}, Unavailable{}},
		{"no status", 200, nil, Unavailable{}},
		{"wait for ever", 200, map[string]string{"Auth-Status": "WAIT"}, Unavailable{}},
		{"an error", 500, map[string]string{"Auth-Status": "OK"}, Unavailable{}},
		{"an overload", 503, nil, Unavailable{}},
		{"not found", 404, nil, Unavailable{}},
		{"a redirect", 302, map[string]string{"Location": "/auth2", "Auth-Status": "OK"}, Unavailable{}},
		{"no content", 204, map[string]string{"Auth-Status": "OK"}, Unavailable{}},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := service(t, HTTPOptions{Names: names}, func(w http.ResponseWriter, _ *http.Request) {
				for name, value := range c.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(c.status)
				if c.status != 204 {
					fmt.Fprint(w, "Auth-Status: OK\r\n")
				}
			})
			got := s.Authenticate(t.Context(), asksAsAlice)
			if u, ok := got.(Unavailable); ok {
				if text := u.Err.Error(); strings.Contains(text, "in-the-url") || strings.Contains(text, "cret") {
					t.Errorf("the error shows a secret: %s", text)
				}
				got = Unavailable{}
			}
			want(t, got, c.want)
		})
	}
	twice := service(t, HTTPOptions{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Auth-Status"] = []string{"OK", "no"}
	})
	if _, ok := twice.Authenticate(t.Context(), asksAsAlice).(Unavailable); !ok {
		t.Error("one of two statuses counts")
	}
}

// WAIT has the service asked again, as nginx does, and other logins meanwhile.
func TestHTTPWaitsAsItIsTold(t *testing.T) {
	var asked atomic.Int32
	s := service(t, HTTPOptions{Asking: AskingOptions{AtOnce: 2}}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Auth-User") == "bob" || asked.Add(1) > 1 {
			w.Header().Set("Auth-Status", "OK")
			return
		}
		w.Header().Set("Auth-Status", "WAIT")
		w.Header().Set("Auth-Wait", "1")
	})
	waiting := make(chan Verdict, 1)
	go func() { waiting <- s.Authenticate(t.Context(), asksAsAlice) }()
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	want(t, s.Authenticate(t.Context(), Credentials{User: "bob", Password: "x", Client: asksAsAlice.Client}), Accepted{})
	select {
	case v := <-waiting:
		t.Errorf("%#v before its time", v)
	default:
	}
	want(t, <-waiting, Accepted{})
	ctx, cancel := context.WithCancel(t.Context())
	asked.Store(0)
	go func() { waiting <- s.Authenticate(ctx, asksAsAlice) }()
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if v, ok := (<-waiting).(Unavailable); !ok {
		t.Errorf("%#v", v)
	}
}

func TestHTTPKeepsItsConnections(t *testing.T) {
	var remotes []string
	s := service(t, HTTPOptions{}, func(w http.ResponseWriter, r *http.Request) {
		remotes = append(remotes, r.RemoteAddr)
		w.Header().Set("Auth-Status", "no")
		fmt.Fprint(w, strings.Repeat("x", 10_000))
	})
	for range 3 {
		want(t, s.Authenticate(t.Context(), asksAsAlice), Rejected{Reason: ReasonBadPassword})
	}
	if remotes[0] != remotes[1] || remotes[1] != remotes[2] {
		t.Errorf("connections from %v", remotes)
	}
}

// A service that doesn't answer holds no login for longer than the timeout, and a service that answers
// one network late keeps no other waiting.
func TestHTTPThatHangs(t *testing.T) {
	release := make(chan struct{})
	var hung atomic.Int32
	s := service(t, HTTPOptions{Asking: AskingOptions{AtOnce: 4, Timeout: time.Minute}}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Auth-User") == "guesser" {
			hung.Add(1)
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		w.Header().Set("Auth-Status", "OK")
	})
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan Verdict, 20)
	for range 20 {
		go func() {
			done <- s.Authenticate(ctx, Credentials{User: "guesser", Password: "x", Client: netip.MustParseAddr("198.51.100.1")})
		}()
	}
	for hung.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	want(t, s.Authenticate(t.Context(), asksAsAlice), Accepted{})
	known := asksAsAlice
	known.Known = true
	want(t, s.Authenticate(t.Context(), known), Accepted{})
	if n := hung.Load(); n != 1 { // looked at before the end: then one that waits may get the place first
		t.Errorf("%d questions of one network at a time, want 1 of 2 places", n)
	}
	cancel()
	for range 20 {
		if v, ok := (<-done).(Unavailable); !ok {
			t.Errorf("%#v", v)
		}
	}
	s.asking = NewAsking(AskingOptions{Timeout: 20 * time.Millisecond})
	v, ok := s.Authenticate(t.Context(), Credentials{User: "guesser", Password: "x"}).(Unavailable)
	if !ok || !errors.Is(v.Err, context.DeadlineExceeded) || !strings.Contains(v.Err.Error(), "no answer in 20ms") {
		t.Errorf("%#v", v)
	}
}

func TestHTTPIsTriedWithoutAUser(t *testing.T) {
	for _, c := range []struct {
		what, status string
		code         int
		want         string // of what is said, or of what mends it
		well         bool
	}{
		{"it refuses", "no", 200, "refuses a user that doesn't exist", true},
		{"it doesn't know", "No such user", 200, "refuses a user that doesn't exist", true},
		{"it lets all in", "OK", 200, "check Auth-User and Auth-Pass", false},
		{"another service", "", 200, "Auth-Status: OK", false},
		{"not there", "", 404, "correct url", false},
		{"not for us", "", 403, "headers = {", false},
		{"broken", "", 502, "own log", false},
	} {
		s := service(t, HTTPOptions{}, func(w http.ResponseWriter, r *http.Request) {
			if c.status != "" {
				w.Header().Set("Auth-Status", c.status)
			}
			w.WriteHeader(c.code)
		})
		what, err := s.Try(t.Context())
		if (err == nil) != c.well {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		var fault *Fault
		if errors.As(err, &fault) {
			what = fault.Mend
		}
		if !strings.Contains(what, c.want) {
			t.Errorf("%s: %q, want %q", c.what, what, c.want)
		}
	}
	gone := service(t, HTTPOptions{}, nil)
	gone.o.URL = "http://127.0.0.1:1/"
	var fault *Fault
	if _, err := gone.Try(t.Context()); !errors.As(err, &fault) || !strings.Contains(fault.Mend, "start the service") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", "127.0.0.1:9000", "ftp://a/", "http://"} {
		if _, err := NewHTTP(HTTPOptions{URL: bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

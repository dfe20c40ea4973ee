package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// authService is an auth_http service as its operator writes one: it answers nginx and us alike.
type authService struct {
	addr string // of the backend that it names

	mu     sync.Mutex // guards what follows
	locked map[string]bool
	hang   chan struct{} // requests wait until it is closed; nil: they don't
	status int           // instead of 200
}

const serviceKey = "of-the-service"

func (s *authService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	hang, status := s.hang, s.status
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
			return
		}
	}
	if r.Header.Get("X-Auth-Key") != serviceKey || r.Header.Get("Auth-Method") != "plain" || r.Header.Get("Auth-Protocol") != "imap" || r.Header.Get("Client-IP") != "127.0.0.1" {
		http.Error(w, "not one of ours", http.StatusForbidden)
		return
	}
	if status != 0 {
		w.Header().Set("Auth-Status", "OK")
		w.WriteHeader(status)
		return
	}
	for name, value := range s.answer(unescaped(r, "Auth-User"), unescaped(r, "Auth-Pass")) {
		w.Header().Set(name, value)
	}
}

func unescaped(r *http.Request, name string) string {
	value, err := url.PathUnescape(r.Header.Get(name))
	if err != nil {
		return ""
	}
	return value
}

func (s *authService) answer(user, password string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locked[user] {
		return map[string]string{"Auth-Status": "Account disabled"}
	}
	host, port, _ := net.SplitHostPort(s.addr)
	ok := map[string]string{"Auth-Status": "OK", "Auth-Server": host, "Auth-Port": port}
	switch {
	case user == servers.User(1) && password == rightPassword, user == servers.User(2) && password == wideA:
		// nginx has no master: it logs in with what it is told.
		ok["Auth-Pass"] = servers.Password
		return ok
	case user == "alias" && password == rightPassword:
		ok["Auth-User"], ok["Auth-Pass"] = servers.User(4), servers.Password
		return ok
	}
	return map[string]string{"Auth-Status": "Invalid login or password"}
}

func (s *authService) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// httpProxy is a proxy that asks such a service.
func httpProxy(t *testing.T, service string, o proxyOptions) *runningProxy {
	t.Helper()
	key := filepath.Join(servers.Folder(t), "auth.key")
	writeFile(t, key, serviceKey+"\n")
	o.Master = true
	o.Further += fmt.Sprintf("auth \"http\" {\n  url = %q\n  headers = { \"X-Auth-Key\" = file(%q) }\n  timeout = %q\n}\n", service, key, o.timeout())
	return startProxy(t, o)
}

func TestAuthHTTP(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	s := &authService{addr: dovecot.Addr, locked: map[string]bool{servers.User(3): true}}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	p := httpProxy(t, web.URL+"/auth", proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}})
	p.sourceTable(t, "http", "bad_password", "x%0D%0AAuth-Status:OK", "alice'--", "*)(uid=*")

	hang := make(chan struct{})
	s.set(func() { s.hang = hang })
	p.unavailable(t, "http", "hangs")
	s.set(func() { s.hang = nil })
	close(hang)
	for _, status := range []int{500, 503, 302, 404} {
		s.set(func() { s.status = status })
		p.unavailable(t, "http", fmt.Sprint(status))
	}
	s.set(func() { s.status = 0 })
	p.comesBack(t, "well again")

	addr := web.Listener.Addr().String()
	web.Close()
	p.unavailable(t, "http", "down")
	again := httptest.NewUnstartedServer(s)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	again.Listener = l
	again.Start()
	t.Cleanup(again.Close)
	p.comesBack(t, "restarted")
	if out, well := p.check(); !well || !strings.Contains(out, "refuses a user that doesn't exist") {
		t.Errorf("imapproxy check:\n%s", out)
	}
	again.Close()
	if out, well := p.check(); well || !strings.Contains(out, "start the service") {
		t.Errorf("imapproxy check of a service that is down:\n%s", out)
	}
	p.toldNoSecrets(t, serviceKey, servers.Password)
}

// One service tells nginx's mail proxy and this one the same, and both let the same users in, each as the
// same user at the backend.
func TestNginxAndWeLetTheSameUsersIn(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	for i := 1; i <= 4; i++ {
		c := imaptest.Dial(t, dovecot.Addr)
		c.Login(servers.User(i), servers.Password)
		c.MustOK("CREATE %s", servers.User(i))
	}
	s := &authService{addr: dovecot.Addr, locked: map[string]bool{servers.User(3): true}}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	ours := httpProxy(t, web.URL+"/auth", proxyOptions{Storage: "separate", Backends: []backend{{"b0", dovecot.TLSAddr}, {"b1", dovecot.Addr}}})
	nginx := servers.StartNginx(t, strings.TrimPrefix(web.URL, "http://")+"/auth", serviceKey)
	in := 0
	for _, c := range []struct{ user, password string }{
		{servers.User(1), rightPassword}, {servers.User(1), wrongPassword}, {servers.User(1), servers.Password},
		{servers.User(2), wideA}, {servers.User(2), "pw-Gr\xfcn"}, {servers.User(3), lockedPassword}, {"alias", rightPassword},
		{"nobody", rightPassword}, {"x%20y", rightPassword}, {servers.User(1), rightPassword + "\r\nX: y"},
	} {
		as := map[string]string{}
		for name, addr := range map[string]string{"nginx": nginx, "imapproxy": ours.Plain} {
			client := imaptest.Dial(t, addr)
			if !client.Plain("", c.user, c.password).OK() {
				continue
			}
			for i := 1; i <= 4; i++ {
				if a := client.Cmd("STATUS %s (MESSAGES)", servers.User(i)); a.OK() {
					as[name] += servers.User(i)
				}
			}
		}
		if as["nginx"] != as["imapproxy"] {
			t.Errorf("%s with %q: nginx logs in %q, imapproxy %q", c.user, c.password, as["nginx"], as["imapproxy"])
		}
		if as["nginx"] != "" {
			in++
		}
	}
	if in != 3 {
		t.Errorf("%d are let in, want 3", in)
	}
}

// The service locks a user: their parked session doesn't stay for longer than recheck.
func TestAuthHTTPLocksAUserOut(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	s := &authService{addr: dovecot.Addr, locked: map[string]bool{}}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	token := filepath.Join(servers.Folder(t), "admin.token")
	writeFile(t, token, "of-the-admin\n")
	p := httpProxy(t, web.URL+"/auth", proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Linger: "1s", AdminToken: token, Further: recheckSoon})
	p.locksOut(t, token, func() { s.set(func() { s.locked[servers.User(1)] = true }) })
}

// recheckSoon has sources asked again about each session every second.
const recheckSoon = "users {\n  recheck = \"1s\"\n}\n"

// locksOut has a user who is parked and then locked, and one who isn't.
func (p *runningProxy) locksOut(t *testing.T, token string, lock func()) {
	t.Helper()
	var parked [3]*imaptest.Client
	for i, password := range []string{1: rightPassword, 2: wideA} {
		if i == 0 {
			continue
		}
		c := imaptest.Dial(t, p.Plain)
		if a := mechanisms["PLAIN"](c, servers.User(i), password); !a.OK() {
			t.Fatal(a.Tagged)
		}
		c.MustOK("SELECT INBOX")
		c.Write("i IDLE")
		c.Expect("+{*}")
		parked[i] = c
		p.eventually(t, "parked", func() error {
			if all := strings.Join(p.sessionsOf(t, token, servers.User(i)), " "); all != "parked" {
				return fmt.Errorf("%s: %s", servers.User(i), all)
			}
			return nil
		})
	}
	lock()
	if r := behindAlive(parked[1]); r.Status() != "BYE" || !strings.Contains(r.Text, "password") {
		t.Errorf("the locked user hears %s", r)
	}
	parked[1].ExpectEOF()
	parked[2].Write("DONE")
	if r := behindAlive(parked[2]); r.Tag() != "i" || r.Status() != "OK" {
		t.Errorf("the other user hears %s", r)
	}
	parked[2].MustOK("UID FETCH 1:* (FLAGS)")
}

package admin_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// serving runs a server of the API and of events, both with the token "token".
func serving(t *testing.T) (addr string) {
	t.Helper()
	o := options(new(fake))
	o.Token = "token"
	o.Events = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	addr, stop := serve(t, o)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return addr
}

// keepAlive is a client's connection.
type keepAlive struct {
	net.Conn
	r *bufio.Reader
}

func connect(t *testing.T, addr string) *keepAlive {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &keepAlive{c, bufio.NewReader(c)}
}

// ask makes a request and returns the status, 0 when the server has closed.
func (c *keepAlive) ask(method, path, token string) int {
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\n\r\n", method, path, token)
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// Connections that show no token keep neither probes nor events nor operators out, and
// those that have shown one stay.
func TestConnectionsWithoutATokenKeepNobodyOut(t *testing.T) {
	addr := serving(t)
	backend, operator := connect(t, addr), connect(t, addr)
	if s := backend.ask("POST", "/v1/events", "token"); s != http.StatusNoContent {
		t.Fatal("an event is answered", s)
	}
	if s := operator.ask("GET", "/v1/status", "token"); s != http.StatusOK {
		t.Fatal("status is answered", s)
	}
	var idle []*keepAlive
	for i := range 600 {
		c := connect(t, addr)
		if i%2 == 0 { // the others say nothing at all
			if s := c.ask("GET", []string{"/healthz", "/v1/status"}[i/2%2], "wrong"); s == 0 {
				t.Fatal("a newcomer isn't answered")
			}
		}
		idle = append(idle, c)
	}
	if s := connect(t, addr).ask("GET", "/readyz", ""); s != http.StatusOK {
		t.Error("a probe is answered", s)
	}
	if s := connect(t, addr).ask("POST", "/v1/events", "token"); s != http.StatusNoContent {
		t.Error("an event on a new connection is answered", s)
	}
	if s := backend.ask("POST", "/v1/events", "token"); s != http.StatusNoContent {
		t.Error("an event on the old connection is answered", s)
	}
	if s := operator.ask("GET", "/v1/status", "token"); s != http.StatusOK {
		t.Error("status on the old connection is answered", s)
	}
	if s := idle[0].ask("GET", "/healthz", ""); s != 0 {
		t.Error("the oldest connection without a token is still served")
	}
}

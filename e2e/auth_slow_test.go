package e2e

import (
	"bytes"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A holder stands before a source on TCP. While it holds, the source is asked, and its answers don't arrive.
type holder struct {
	Addr  string
	from  string        // it holds from what is sent with this text on; "": from anything that is sent
	asked chan struct{} // something was sent to the source while its answers are held

	mu      sync.Mutex // guards what follows
	waiting bool       // for what from says
	held    chan struct{}
}

// hold stands before a server until the test ends.
func hold(t *testing.T, server, from string) *holder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{Addr: l.Addr().String(), from: from, asked: make(chan struct{}, 1)}
	var all sync.WaitGroup
	t.Cleanup(func() {
		h.release()
		_ = l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", server)
			if err != nil {
				_ = c.Close()
				continue
			}
			all.Go(func() { h.copy(s, c, h.hears) })
			all.Go(func() { h.copy(c, s, func([]byte) { <-h.holding() }) })
		}
	})
	return h
}

// copy copies until one side ends, and calls before before it writes.
func (h *holder) copy(to, from net.Conn, before func([]byte)) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			before(b[:n])
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// holding is closed unless answers are held.
func (h *holder) holding() chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held == nil {
		free := make(chan struct{})
		close(free)
		return free
	}
	return h.held
}

// hears is told of what is sent to the source.
func (h *holder) hears(sent []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.waiting || !bytes.Contains(sent, []byte(h.from)) {
		return
	}
	h.waiting, h.held = false, make(chan struct{})
	h.asked <- struct{}{} // has room: it is read before the next holdOn
}

// holdOn holds the answers to what is sent next.
func (h *holder) holdOn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = true
}

func (h *holder) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = false
	if h.held != nil {
		close(h.held)
		h.held = nil
	}
}

// A source that answers late, but in time: the login waits for the answer, and it counts.
func TestASlowSourceDecides(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	o := proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Patient: true}
	const wrong = "bad_password"
	for source, start := range map[string]func(t *testing.T) slowSource{
		"http": func(t *testing.T) slowSource {
			web := httptest.NewServer(&authService{addr: dovecot.Addr})
			t.Cleanup(web.Close)
			h := hold(t, web.Listener.Addr().String(), "")
			return slowSource{h, httpProxy(t, "http://"+h.Addr+"/auth", o), mechanisms, rightPassword, wrongPassword, wrong}
		},
		"ldap": func(t *testing.T) slowSource {
			directory := servers.StartSlapd(t, people())
			h := hold(t, strings.Trim(strings.TrimPrefix(directory.TLSURL, "ldaps:"), "/"), "")
			return slowSource{h, ldapProxy(t, "ldaps://"+h.Addr, directory.Cert.CertFile, searchAndBind, o), mechanisms, rightPassword, wrongPassword, wrong}
		},
		"sql": func(t *testing.T) slowSource {
			db := servers.StartPostgres(t)
			db.Exec(strings.ReplaceAll(usersTable(), `\\`, `\`))
			h := hold(t, db.Addr, "")
			p := sqlProxy(t, "postgres", strings.ReplaceAll(db.DSN, db.Addr, h.Addr), strings.Replace(usersQuery, "AS user", `AS "user"`, 1), o)
			return slowSource{h, p, mechanisms, rightPassword, wrongPassword, wrong}
		},
		"dovecot": func(t *testing.T) slowSource {
			h := hold(t, servers.StartDovecotAuth(t, "plain", checked()).Addr, "")
			o := o
			o.Master = true
			return slowSource{h, checkedProxy(t, h.Addr, o), mechanisms, rightPassword, wrongPassword, wrong}
		},
		"oauth": func(t *testing.T) slowSource {
			provider := startProvider(t)
			h := hold(t, provider.Listener.Addr().String(), "")
			o := o
			o.Master, o.Further = true, oauthSource(t, provider, "introspection_url = \"https://"+h.Addr+"/introspect\"", o.timeout())
			return slowSource{h, startProxy(t, o), tokenMechanisms, provider.token(t, servers.User(1), "imap", time.Hour), provider.token(t, servers.User(1), "calendar", time.Hour), "bad_token"}
		},
		"backend": func(t *testing.T) slowSource { // the proxy probes it meanwhile
			h := hold(t, dovecot.Addr, "AUTHENTICATE PLAIN")
			p := startProxy(t, proxyOptions{Backends: []backend{{"b1", h.Addr}}, Stays: true})
			return slowSource{h, p, mechanisms, servers.Password, wrongPassword, "backend_refused"}
		},
	} {
		t.Run(source, func(t *testing.T) {
			s := start(t)
			for mechanism, login := range s.mechanisms {
				s.proxy.cell(t, source, mechanism, cell{"at once, right", servers.User(1), s.right, "", ""}, login) // from now on there is a connection to the source
				for _, c := range []cell{
					{"slow, right", servers.User(1), s.right, "", ""},
					{"slow, wrong", servers.User(1), s.wrong, "AUTHENTICATIONFAILED", s.reason},
				} {
					s.holdOn()
					s.proxy.cell(t, source, mechanism, c, s.lets(t, login))
				}
			}
			s.proxy.toldNoSecrets(t)
		})
	}
}

// A slowSource is a source behind a holder, with what it takes and what it refuses, and why.
type slowSource struct {
	*holder
	proxy                *runningProxy
	mechanisms           map[string]func(c *imaptest.Client, user, password string) imaptest.Answer
	right, wrong, reason string
}

// lets is a login during which the answers that are held are let go of once the source has been asked.
func (h *holder) lets(t *testing.T, login func(*imaptest.Client, string, string) imaptest.Answer) func(*imaptest.Client, string, string) imaptest.Answer {
	return func(client *imaptest.Client, user, password string) imaptest.Answer {
		var released sync.WaitGroup
		released.Go(func() {
			select {
			case <-h.asked:
			case <-time.After(time.Minute):
				t.Error("the source isn't asked")
			}
			h.release()
		})
		a := login(client, user, password)
		released.Wait()
		return a
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"imapproxy/internal/wiring"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/routing"
)

// backend probes one backend: reachable, TLS, greeting, a login.
func (k *checker) backend(ctx context.Context, r *report, b routing.Backend) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	what := "backend " + b.Shown()
	if b.State != routing.Up {
		r.warn(what, "", "%s: %s, %s", b.Address, b.State, dash(b.Reason))
	}
	t := wiring.Target(k.cfg, b)
	began := time.Now()
	caps, err := k.dialer.Probe(ctx, t)
	if err != nil {
		r.fail(what, backendFix(err), "%s: %s", b.Address, said(err))
		return
	}
	r.ok(what, "%s: answers in %d ms, TLS %s, %s", b.Address, time.Since(began).Milliseconds(), tlsWords(t), count(len(caps), "capability"))
	if t.TLS == upstream.TLSNone && !upstream.Local(b.Address) {
		r.warn(what, "backend_defaults.tls = \"starttls\" or \"implicit\", unless the network is your own", "passwords go to %s without TLS", b.Address)
	}
	if k.placement != "" && !b.Means(k.placement) && k.cfg.Routing.Storage == routing.Separate.String() {
		return // the user isn't known there
	}
	k.tryLogin(ctx, r, b.Shown(), t)
}

// tryLogin logs in as a session would, and opens the INBOX.
func (k *checker) tryLogin(ctx context.Context, r *report, id string, t upstream.Target) {
	what := "login " + id
	a := k.login
	a.User, a.Password = k.canonical, k.password
	if a.Mode == upstream.ModeMaster {
		how, err := k.dialer.VerifyIntendedUser(ctx, t, a)
		if err != nil {
			r.fail(what, backendFix(err), "%s: %s", a.MasterUser, said(err))
			return
		}
		r.ok(what, "a login as %s yields the intended user (%s)", a.MasterUser, how)
		if k.user == "" {
			r.skip(what, "name one with --user", "no mailbox was opened, and parking, limits and trust weren't checked: that needs a user")
			return
		}
	} else if k.user == "" || k.password == "" {
		return // reported once for all backends
	}
	conn, err := k.dialer.Login(ctx, t, a, upstream.Client{SessionID: "check"})
	if err != nil {
		r.fail(what, backendFix(err), "%s: %s", k.canonical, said(err))
		return
	}
	defer conn.Close()
	caps := conn.Caps
	answer, server, err := examine(ctx, conn)
	switch {
	case err != nil:
		r.fail(what, "", "%s is logged in, but EXAMINE INBOX: %v", k.canonical, err)
	case answer.Status == "OK":
		r.ok(what, "%s is logged in and INBOX opens, %s", k.canonical, count(len(caps), "capability"))
		checkParking(r, "parking "+id, k.cfg, caps, server)
		checkLimits(r, "limits "+id, k.cfg, server)
		checkInotify(r, "limits "+id, server, upstream.Local(t.Address))
		k.trust(ctx, r, id, t, a, caps, server, ownAddress(conn))
	case a.Mode == upstream.ModeMaster:
		r.fail(what, "Dovecot with ACLs judges by the master's rights unless its configuration has "+aclUser(caps),
			"%s is logged in, but INBOX doesn't open: %s %s", k.canonical, answer.Status, answer.Text)
	default:
		r.fail(what, "see the backend's log", "%s is logged in, but INBOX doesn't open: %s %s", k.canonical, answer.Status, answer.Text)
	}
}

// examine asks for the server's name (RFC 2971), "" where it doesn't say, and opens
// INBOX read-only (RFC 9051 §6.3.3): a SELECT would take \Recent from the user's own
// client.
func examine(ctx context.Context, conn *upstream.Conn) (answer wire.Response, server string, err error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return answer, "", err
		}
	}
	commands := "c1 EXAMINE INBOX\r\n"
	if conn.Caps.Has("ID") {
		commands = "c0 ID NIL\r\n" + commands
	}
	if _, err := io.WriteString(conn, commands); err != nil {
		return answer, "", err
	}
	reader := wire.NewReader(conn, 8<<10, 64<<10)
	for {
		answer, err = reader.ReadResponse()
		switch {
		case err != nil || answer.Tag == "c1":
			_, _ = io.WriteString(conn, "c2 LOGOUT\r\n") // a courtesy; the answer isn't needed
			return answer, server, err
		case bytes.HasPrefix(bytes.ToUpper(answer.Line), []byte("* ID ")):
			server = serverName(answer.Line)
		}
	}
}

// said returns the text of an upstream error without the backend's name, which is printed beside it.
func said(err error) string {
	text := err.Error()
	var down *upstream.Unavailable
	if errors.As(err, &down) {
		text = strings.TrimPrefix(text, "backend "+down.Backend+" unavailable: ")
	}
	var refused *upstream.Refused
	if errors.As(err, &refused) {
		text = strings.TrimPrefix(text, "backend "+refused.Backend+" ")
	}
	return text
}

// backendFix says what to do about a failure of a backend.
func backendFix(err error) string {
	var refused *upstream.Refused
	if errors.As(err, &refused) {
		return "the backend refuses this name and password: correct --user or --password-file, or the user on the backend"
	}
	var down *upstream.Unavailable
	if !errors.As(err, &down) {
		return ""
	}
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	switch {
	case errors.Is(err, upstream.ErrIntendedUser):
		return "this server ignores the authorization identity (Courier does): every user would see the master's mail. Use backend_login mode \"user\" with it"
	case errors.Is(err, upstream.ErrCleartext):
		return "backend_defaults.tls = \"starttls\" or \"implicit\", or backend_login { cleartext = true } if no one else can read that network's traffic"
	case errors.Is(err, upstream.ErrUnverified):
		return "give the master user an INBOX, or none, or name a user that exists with --user"
	case errors.As(err, &authority):
		return "put the authority that signed it into backend_defaults.ca_file"
	case errors.As(err, &name):
		return "write the certificate's name into server_name (backend_defaults, the static backend, or Consul's service meta), or give the backend a certificate for it"
	case errors.As(err, &invalid):
		return "renew the backend's certificate"
	case errors.As(err, &dns):
		return "correct the host in the backend's address"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "no server listens there: start the IMAP server, or correct the address"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "there is no way there from this machine: correct the address or the routes"
	case down.Stage == upstream.StageDial && errors.Is(err, upstream.ErrTimeout):
		return "no answer to the connection: a firewall, a wrong address, or connect_timeout is too short"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer within --timeout: servers delay the answer to a wrong password on purpose, give it more; or the server hangs"
	case errors.Is(err, upstream.ErrTimeout):
		return "the connection was made, but no data arrives: tls = \"implicit\" against a port without TLS, or the other way round, or a server that hangs"
	case down.Stage == upstream.StageTLS:
		return "tls = \"starttls\" is for port 143, \"implicit\" for port 993; does this server have a certificate? Dovecot offers STARTTLS with ssl = yes or required, Cyrus from 3.10 on offers STARTTLS with allowstarttls: yes in imapd.conf only"
	case down.Stage == upstream.StageGreeting:
		return "no IMAP greeting came: correct the address, or tls (\"implicit\" for port 993)"
	case down.Stage == upstream.StageSettings:
		return "correct backend_login"
	case down.Code == "AUTHENTICATIONFAILED":
		return "the backend refuses the master user: correct backend_login's username and password_file, or the master user on the backend (Dovecot: a passdb with master = yes)"
	case down.Code == "AUTHORIZATIONFAILED":
		return "either the master user may not act for others (Dovecot: auth_master_user_separator and a passdb with master = yes; Cyrus: proxyservers), or this user doesn't exist there: name one that does with --user"
	case down.Code == "PRIVACYREQUIRED":
		return "the backend requires TLS: backend_defaults.tls = \"starttls\" or \"implicit\""
	case down.Stage == upstream.StageLogin:
		return "the backend offers no login that the proxy can use: check whether it requires TLS (LOGINDISABLED), and see its log"
	}
	return "see the backend's log"
}

// consulFix says what to do about a failure of Consul, whose errors are texts.
func consulFix(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "connection refused"):
		return "start the agent, or correct discovery.consul.address (or CONSUL_HTTP_ADDR)"
	case strings.Contains(text, "403"), strings.Contains(text, "401"), strings.Contains(text, "ACL"):
		return "the token needs service:read and node:read: correct token_file (or CONSUL_HTTP_TOKEN)"
	case strings.Contains(text, "x509"), strings.Contains(text, "tls:"):
		return "correct ca_file, cert_file and key_file, or the scheme of the address"
	case strings.Contains(text, "no such host"):
		return "correct the host in discovery.consul.address"
	}
	return "look whether the agent runs and has a leader (consul operator raft list-peers)"
}

func tlsWords(t upstream.Target) string {
	if t.TLS == upstream.TLSNone || t.TLS == "" {
		return "off"
	}
	return t.TLS + ", certificate verified"
}

// lastError is a log writer that stores the error of the last record that had one.
type lastError struct {
	mu    sync.Mutex // guards error
	error string
}

// Write takes records in JSON, a line each.
func (l *lastError) Write(p []byte) (int, error) {
	for _, line := range bytes.Split(p, []byte("\n")) {
		var record struct{ Error string }
		if json.Unmarshal(line, &record) == nil && record.Error != "" {
			l.mu.Lock()
			l.error = record.Error
			l.mu.Unlock()
		}
	}
	return len(p), nil
}

func (l *lastError) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.error
}

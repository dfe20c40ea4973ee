package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"

	"imapproxy/proxy/upstream"
)

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
	case errors.Is(err, upstream.ErrHeaderUnexpected):
		return "send_proxy = \"none\", or a listener of the backend that expects the PROXY header"
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

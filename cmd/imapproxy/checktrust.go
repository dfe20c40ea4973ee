package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// Two addresses that no client has (RFC 5737), which check sends as a client's.
var (
	oneClient     = netip.MustParseAddrPort("192.0.2.1:1")
	anotherClient = netip.MustParseAddrPort("192.0.2.2:1")
)

// mostLogins is how often check logs in to reach a Dovecot's limit of connections of a
// user from one address. Dovecot's default is 10; docs/backends.md has 50.
const mostLogins = 60

// believed is whether a Dovecot trusts the proxy.
type believed int

const (
	trustUnknown believed = iota
	trusted
	untrusted
)

// trust says whether a backend takes the clients' addresses from this proxy, and what
// to write there if not. from is the proxy's address, as far as it can be seen here.
func (k *checker) trust(ctx context.Context, r *report, id string, t upstream.Target, a upstream.Auth, caps wire.Caps, server, from string) {
	what := "trust " + id
	if t.SendProxy == upstream.ProxyV2 {
		r.ok(what, "it takes the clients' addresses from the PROXY header")
		return
	}
	switch server {
	case serverDovecot:
		found, err := k.dovecotTrust(ctx, t, a, caps)
		switch {
		case err != nil:
			r.skip(what, "look whether doveconf login_trusted_networks names "+from, "it isn't known whether it accepts the clients' addresses from this proxy: %s", said(err))
		case found == trusted:
			r.ok(what, "it takes the clients' addresses from this proxy")
		case found == untrusted:
			r.warn(what, trustFix(caps, from), "it sees all clients at the proxy's address: a few wrong passwords slow all users' logins down, and a user has ten connections in all")
		default:
			r.skip(what, "look whether doveconf login_trusted_networks names "+from,
				"it isn't known whether it accepts the clients' addresses from this proxy: this Dovecot says so only by its limit of connections, which isn't reached with %d", mostLogins)
		}
	case serverCyrus:
		r.skip(what, "maxlogins_per_host: 0 (its default) in imapd.conf; maxchild above clients + watches + warm connections in cyrus.conf (Debian: 100)",
			"a Cyrus sees all clients at the proxy's address: the proxy can't tell it another one")
	}
}

// trustFix returns what to configure in a Dovecot that doesn't trust the proxy.
func trustFix(caps wire.Caps, from string) string {
	fix := "login_trusted_networks = " + from + " (every proxy's address, with blanks between) in dovecot.conf, and protocol imap { mail_max_userip_connections = 50 } for the proxy's own watches"
	if dovecot24(caps) {
		fix += "; with ssl = required such connections need TLS there, too"
	}
	return fix + " (docs/backends.md)"
}

// dovecotTrust finds out whether a Dovecot trusts this proxy. 2.4 tells it. At 2.3, check opens connections
// of the user for one client until the server refuses one as too many; if the server then accepts the user
// for another client, it trusts the proxy.
func (k *checker) dovecotTrust(ctx context.Context, t upstream.Target, a upstream.Auth, caps wire.Caps) (believed, error) {
	text, err := k.dialer.Identify(ctx, t, upstream.Client{Addr: oneClient, SessionID: "check"})
	switch {
	case err != nil:
		return trustUnknown, err
	case strings.HasPrefix(text, "Trusted ID"):
		return trusted, nil
	case dovecot24(caps):
		return untrusted, nil
	}
	var open []*upstream.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for range mostLogins {
		c, err := k.dialer.Login(ctx, t, a, upstream.Client{Addr: oneClient, SessionID: "check"})
		if err == nil {
			open = append(open, c)
			continue
		}
		if !tooMany(err) {
			return trustUnknown, err
		}
		c, err = k.dialer.Login(ctx, t, a, upstream.Client{Addr: anotherClient, SessionID: "check"})
		switch {
		case err == nil:
			open = append(open, c)
			return trusted, nil
		case tooMany(err):
			return untrusted, nil
		}
		return trustUnknown, err
	}
	return trustUnknown, nil
}

// tooMany says whether a login was refused since the user has as many connections from
// one address as the backend allows.
func tooMany(err error) bool {
	var down *upstream.Unavailable
	return errors.As(err, &down) && down.AtLimit()
}

// ownAddress is the address that a connection comes from.
func ownAddress(c net.Conn) string {
	if host, _, err := net.SplitHostPort(c.LocalAddr().String()); err == nil {
		return host
	}
	return "the proxy's address"
}

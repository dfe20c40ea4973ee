package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"imapproxy/internal/wiring"
	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/routing"
)

// backend probes one backend: reachable, TLS, greeting, a login. It returns the capabilities after the login, nil
// without one.
func (k *checker) backend(ctx context.Context, r *report, b routing.Backend) wire.Caps {
	all := ctx
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
		r.fail(what, cmp.Or(k.headerFix(all, t, err), backendFix(err)), "%s: %s", b.Address, said(err))
		return nil
	}
	r.ok(what, "%s: answers in %d ms, TLS %s, %s", b.Address, time.Since(began).Milliseconds(), tlsWords(t), count(len(caps), "capability"))
	k.tokens(r, what, caps)
	if t.TLS == upstream.TLSNone && !upstream.Local(b.Address) {
		r.warn(what, "backend_defaults.tls = \"starttls\" or \"implicit\", unless the network is your own", "passwords go to %s without TLS", b.Address)
	}
	k.shares(ctx, r, b, t)
	if k.placement != "" && !b.Means(k.placement) && k.cfg.Routing.Storage == routing.Separate.String() {
		return nil // the user isn't known there
	}
	return k.tryLogin(ctx, r, b.Shown(), t)
}

// tokens reports mechanisms of tokens that are passed on, and that the backend doesn't offer.
func (k *checker) tokens(r *report, what string, caps []string) {
	for _, a := range k.cfg.Auth {
		if a.Backend == nil {
			continue
		}
		for _, m := range a.Backend.Mechanisms {
			if !wire.Caps(caps).Has("AUTH=" + m) {
				r.fail(what, "switch "+m+" on there, or remove it from the mechanisms of auth \"backend\"", "it doesn't offer AUTH=%s, so clients' tokens can't be passed on", m)
			}
		}
	}
}

// tryLogin logs in as a session would, and opens the INBOX. It returns the capabilities after the login, nil without one.
func (k *checker) tryLogin(ctx context.Context, r *report, id string, t upstream.Target) wire.Caps {
	what := "login " + id
	a := k.login
	a.User, a.Password = k.canonical, k.password
	if a.Mode == upstream.ModeMaster {
		how, err := k.dialer.VerifyIntendedUser(ctx, t, a)
		if err != nil {
			r.fail(what, backendFix(err), "%s: %s", a.MasterUser, said(err))
			return nil
		}
		r.ok(what, "a login as %s yields the intended user (%s)", a.MasterUser, how)
		if k.user == "" {
			r.skip(what, "name one with --user", "no mailbox was opened, and parking, limits and trust weren't checked: that needs a user")
			return nil
		}
	} else if k.user == "" || k.password == "" {
		return nil // reported once for all backends
	}
	conn, server, err := k.open(ctx, t, a)
	if err != nil && conn != nil { // all backends are checked at once: with shared storage one may have been making the user's INBOX just then
		conn.Close()
		conn, server, err = k.open(ctx, t, a)
	}
	if conn == nil {
		r.fail(what, backendFix(err), "%s: %s", k.canonical, said(err))
		return nil
	}
	defer conn.Close()
	caps := conn.Caps
	answer, refused := errors.AsType[*imapclient.Refusal](err)
	switch {
	case err == nil:
		r.ok(what, "%s is logged in and INBOX opens, %s", k.canonical, count(len(caps), "capability"))
		checkParking(r, "parking "+id, k.cfg, caps, server)
		checkLimits(r, "limits "+id, k.cfg, server)
		checkInotify(r, "limits "+id, server, upstream.Local(t.Address))
		k.trust(ctx, r, id, t, a, caps, server, ownAddress(conn))
	case !refused:
		r.fail(what, "", "%s is logged in, but EXAMINE INBOX: %v", k.canonical, err)
	case a.Mode == upstream.ModeMaster:
		r.fail(what, "Dovecot with ACLs applies the master's rights unless its configuration has "+aclUser(caps),
			"%s is logged in, but INBOX doesn't open: %s %s", k.canonical, answer.Status, answer.Text)
	default:
		r.fail(what, "see the backend's log", "%s is logged in, but INBOX doesn't open: %s %s", k.canonical, answer.Status, answer.Text)
	}
	return caps
}

// open logs in and opens INBOX. conn is nil if the login failed; otherwise the error is examine's.
func (k *checker) open(ctx context.Context, t upstream.Target, a upstream.Auth) (conn *upstream.Conn, server string, err error) {
	if conn, err = k.dialer.Login(ctx, t, a, upstream.Client{SessionID: "check"}); err != nil {
		return nil, "", err
	}
	server, err = examine(ctx, conn)
	return conn, server, err
}

// examine asks for the server's name (RFC 2971), "" where it doesn't say, and opens
// INBOX read-only (RFC 9051 §6.3.3): a SELECT would take \Recent from the user's own
// client. A server that refuses is an *imapclient.Refusal.
func examine(ctx context.Context, conn *upstream.Conn) (server string, err error) {
	imap := imapclient.New(conn.Conn, imapclient.Options{MaxLine: 8 << 10})
	if conn.Caps.Has("ID") {
		_, err = imap.Do(ctx, "ID NIL", func(u imapclient.Untagged) bool {
			if u.Is("ID") {
				server = serverName(u.Response.Line)
			}
			return true
		})
		if _, refused := errors.AsType[*imapclient.Refusal](err); err != nil && !refused {
			return "", err
		}
	}
	if _, err = imap.Do(ctx, "EXAMINE INBOX", nil); err == nil {
		imap.Queue("LOGOUT\r\n")
		_ = imap.Flush() // the answer isn't needed
	}
	return server, err
}

func tlsWords(t upstream.Target) string {
	if t.TLS == upstream.TLSNone || t.TLS == "" {
		return "off"
	}
	return t.TLS + ", certificate verified"
}

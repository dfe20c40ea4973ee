package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"imapproxy/internal/admin"
	"imapproxy/internal/postfix"
	"imapproxy/internal/wiring"
	"imapproxy/proxy/auth"
)

// route returns where a user's mail is served, and holds the user there for a while.
func (a *App) route(ctx context.Context, name string) (admin.Route, error) {
	set := a.current.Load().cfg.Route
	r, err := a.server.Route(ctx, name)
	if errors.Is(err, auth.ErrName) {
		return admin.Route{}, fmt.Errorf("%w: %w", admin.ErrNoSuchName, err)
	}
	if err != nil {
		return admin.Route{}, err
	}
	host, text, err := net.SplitHostPort(r.Backend.Address)
	if err != nil {
		return admin.Route{}, err
	}
	imap, err := net.LookupPort("tcp", text)
	if err != nil {
		return admin.Route{}, err
	}
	return admin.Route{
		User: r.User, Backend: a.called(r.Backend.ID), Why: string(r.Why), Host: host, TTLSeconds: r.For.Seconds(),
		Ports: map[string]int{"imap": imap, "lmtp": set.LMTP, "pop3": set.POP3, "sieve": set.Sieve},
	}, nil
}

// openLookups binds the address at which Postfix asks; it returns nil if that is off.
func (a *App) openLookups() (*postfix.Server, error) {
	address := a.cfg.Route.Address
	if address == "" {
		return nil, nil
	}
	l, err := a.sockets.Take(lookupsSocket, address)
	if err == nil && l == nil {
		var bound net.Listener
		if bound, err = net.Listen("tcp", address); err == nil {
			l = bound.(*net.TCPListener)
		}
	}
	if err != nil {
		return nil, wiring.About("route.address", err)
	}
	a.tel.Log.Info("lookups of routes", "address", l.Addr().String())
	return postfix.New(postfix.Options{Listener: l, Lookup: a.transport, Log: a.tel.Log}), nil
}

// transport returns Postfix's transport for the address of a recipient (transport(5)): LMTP to the backend of the user.
func (a *App) transport(ctx context.Context, recipient string) (string, error) {
	set := a.current.Load().cfg.Route
	user, ok := recipientUser(recipient, set.Domains, set.Delimiter)
	if !ok {
		return "", postfix.ErrNotFound
	}
	r, err := a.route(ctx, user)
	if errors.Is(err, admin.ErrNoSuchName) {
		return "", postfix.ErrNotFound
	}
	if err != nil {
		return "", err
	}
	return "lmtp:inet:[" + r.Host + "]:" + strconv.Itoa(r.Ports["lmtp"]), nil
}

// recipientUser returns the name of the user with this address; false: the address is none in these domains. Postfix asks for
// domains and parts of addresses, too.
func recipientUser(recipient string, domains []string, delimiter string) (string, bool) {
	at := strings.LastIndexByte(recipient, '@')
	if at <= 0 {
		return "", false
	}
	local, domain := recipient[:at], strings.ToLower(recipient[at+1:])
	for _, d := range domains {
		if d != domain {
			continue
		}
		if end := strings.IndexAny(local, delimiter); end > 0 {
			local = local[:end]
		}
		return local + "@" + domain, true
	}
	return "", false
}

// LookupsAddr returns the address at which Postfix asks, "" if it is off.
func (a *App) LookupsAddr() string {
	if a.lookups == nil {
		return ""
	}
	return a.lookups.Socket().Addr().String()
}

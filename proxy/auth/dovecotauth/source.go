package dovecotauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// Options are the options of New. Address is required.
type Options struct {
	Name    string // of the source, in metrics and logs; empty: dovecot
	Address string // of a listener of Dovecot's service auth: the path of a unix socket, or host:port
	PID     int    // the proxy's process, as Dovecot is told it
	Names   auth.Names
	Asking  auth.AskingOptions
}

// Source asks Dovecot's auth process by its protocol for clients, version 1, which Dovecot 2.3 and 2.4
// speak: what Dovecot can check a password with (PAM, Lua, Kerberos, …), the proxy can.
type Source struct {
	o      Options
	asking *auth.Asking
	pool   pool
}

// New makes the source. It connects to nothing yet.
func New(o Options) (*Source, error) {
	if o.Address == "" {
		return nil, errors.New("no address")
	}
	dial := func(ctx context.Context) (*connection, error) { return dial(ctx, o.Address, o.PID) }
	return &Source{o: o, asking: auth.NewAsking(o.Asking), pool: pool{dial: dial}}, nil
}

// Name implements auth.Source.
func (s *Source) Name() string { return cmp.Or(s.o.Name, "dovecot") }

// Close implements auth.Source.
func (s *Source) Close() error {
	s.pool.empty(true)
	return nil
}

// Authenticate implements auth.Source.
func (s *Source) Authenticate(ctx context.Context, c auth.Credentials) auth.Verdict {
	return s.asking.Ask(ctx, c, func(ctx context.Context) auth.Verdict {
		var answer line
		err := s.pool.do(ctx, func(d *connection) (err error) {
			answer, err = d.ask(c)
			return err
		})
		if err != nil {
			return auth.Unavailable{Err: auth.Said(err)}
		}
		return verdictOf(answer, c, s.o.Names)
	})
}

// Certified implements auth.Certifier: by EXTERNAL, whose passdb needs no password.
func (s *Source) Certified(ctx context.Context, c auth.Credentials) auth.Verdict {
	c.Password = ""
	v := s.Authenticate(ctx, c)
	if r, ok := v.(auth.Rejected); ok && r.Reason == auth.ReasonBadPassword { // there is none
		return auth.Rejected{Reason: auth.ReasonUnknownUser}
	}
	return v
}

// Try implements auth.Trier: it asks about a user that doesn't exist.
func (s *Source) Try(ctx context.Context) (string, error) {
	c := auth.Credentials{User: "imapproxy-check@check.invalid", Password: telemetry.Secret(rand.Text()), Client: netip.AddrFrom4([4]byte{127, 0, 0, 1}), TLS: true, Attempt: 1}
	switch v := s.Authenticate(ctx, c).(type) {
	case auth.Unavailable:
		return "", &auth.Fault{Err: fmt.Errorf("%s: %w", s.o.Address, v.Err), Mend: mend(v.Err)}
	case auth.Accepted:
		return "", &auth.Fault{Err: fmt.Errorf("%s accepts a user that doesn't exist, with a made-up password", s.o.Address),
			Mend: "correct Dovecot's passdb: one of them takes any password"}
	}
	return s.o.Address + " answers, and refuses a user that doesn't exist", nil
}

// TryCertified implements auth.CertifierTrier.
func (s *Source) TryCertified(ctx context.Context) (string, error) {
	c := auth.Credentials{User: "imapproxy-check@check.invalid", Mechanism: auth.MechanismExternal, Client: netip.AddrFrom4([4]byte{127, 0, 0, 1}), TLS: true, Attempt: 1}
	switch v := s.Certified(ctx, c).(type) {
	case auth.Unavailable:
		return "", &auth.Fault{Err: fmt.Errorf("%s, by EXTERNAL: %w", s.o.Address, v.Err), Mend: mend(v.Err)}
	case auth.Accepted:
		return "", &auth.Fault{Err: fmt.Errorf("%s accepts a certificate of a user that doesn't exist (EXTERNAL)", s.o.Address),
			Mend: "correct Dovecot's passdb for EXTERNAL: it has nopassword for users that it doesn't know"}
	}
	return s.o.Address + " takes names from certificates (EXTERNAL), and refuses that of a user that doesn't exist", nil
}

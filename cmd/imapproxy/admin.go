package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/wiring"
)

// adminFlags are the flags of the verbs that send requests to a running proxy.
type adminFlags struct {
	Admin     string `default:"127.0.0.1:8143" placeholder:"ADDRESS" help:"The running proxy's admin address, host:port or a URL (${default})."`
	TokenFile string `placeholder:"FILE" help:"File with the admin API's token, if the API requires one."`
	CAFile    string `placeholder:"FILE" help:"File with the authorities for the admin API's certificate, if the address is https://…; default: the system's."`
	JSON      bool   `name:"json" help:"Print the API's JSON (docs/admin.md) instead of a table."`
}

// client returns the client for the requests.
func (f adminFlags) client() (*admin.Client, error) {
	c := &admin.Client{Address: f.Admin}
	if f.TokenFile != "" {
		token, err := wiring.Secret(f.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		c.Token = token
	}
	if f.CAFile != "" {
		text, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		authorities := x509.NewCertPool()
		if !authorities.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca-file: %s holds no certificate", f.CAFile)
		}
		c.TLS = &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}
	}
	return c, nil
}

// clusterFlag is the flag of the verbs that can ask all proxies.
type clusterFlag struct {
	Cluster bool `help:"Ask all proxies of the service, by way of this one."`
}

// notAnswered prints the proxies that haven't answered. The answers of the others were printed before; the
// exit code says that some are missing.
func notAnswered(w io.Writer, failed []string) error {
	for _, one := range failed {
		fmt.Fprintf(w, "\nno answer from %s\n", dash(one))
	}
	if len(failed) > 0 {
		return failure{exitFailed}
	}
	return nil
}

// each prints every proxy's answer below its name, then the proxies that haven't answered.
func each[T any](show func(io.Writer, T) error) func(io.Writer, admin.Cluster[T]) error {
	return func(w io.Writer, all admin.Cluster[T]) error {
		for i, p := range all.Proxies {
			if p.Answer == nil {
				continue
			}
			if i > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintf(w, "%s (%s)\n", dash(p.Proxy), dash(p.Address))
			if err := show(w, *p.Answer); err != nil {
				return err
			}
		}
		return notAnswered(w, all.Failed())
	}
}

// ask sends a request to a running proxy by get, and prints the answer by show, or as JSON.
func ask[T any](env environment, f adminFlags, get func(context.Context, *admin.Client) (T, error), show func(io.Writer, T) error) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	answer, err := get(env.ctx, c)
	if err != nil {
		return asked(f, err)
	}
	if f.JSON {
		e := json.NewEncoder(env.stdout)
		e.SetIndent("", "  ")
		return e.Encode(answer)
	}
	return show(env.stdout, answer)
}

// askOneOrAll is ask by a method of admin.Client, or with --cluster by the one that asks all proxies.
func askOneOrAll[T any](env environment, f adminFlags, c clusterFlag, one func(*admin.Client, context.Context) (T, error), show func(io.Writer, T) error,
	all func(*admin.Client, context.Context) (admin.Cluster[T], error), showAll func(io.Writer, admin.Cluster[T]) error) error {
	if c.Cluster {
		return ask(env, f, func(ctx context.Context, a *admin.Client) (admin.Cluster[T], error) { return all(a, ctx) }, showAll)
	}
	return ask(env, f, func(ctx context.Context, a *admin.Client) (T, error) { return one(a, ctx) }, show)
}

// asked returns the error of a request, with what to do about it.
func asked(f adminFlags, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.As(err, new(*url.Error)):
		return fmt.Errorf("%w\nAsked was %s: --admin names the address of a running proxy's admin API (admin { address = … } in its configuration)", err, f.Admin)
	case !errors.Is(err, admin.ErrToken):
		return err
	case f.TokenFile == "":
		return fmt.Errorf("the proxy at %s requires a token: use --token-file with the file that admin { token_file = … } names there", f.Admin)
	default:
		return fmt.Errorf("the proxy at %s has another token than %s: use --token-file with the file that admin { token_file = … } names there", f.Admin, f.TokenFile)
	}
}

// size formats a number of bytes for human readers, in powers of 1000.
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB"} {
		if f /= 1000; f < 999.5 {
			return fmt.Sprintf("%.3g %s", f, unit)
		}
	}
	return fmt.Sprintf("%.3g PB", f/1000)
}

// dash returns text for a terminal, "-" for an empty column.
func dash(s string) string { return admin.Printable(s) }

// ago formats a duration for human readers.
func ago(d time.Duration) string { return admin.Elapsed(d) }

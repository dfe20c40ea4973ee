package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/wiring"
)

// adminFlags are those of the verbs that ask a running proxy.
type adminFlags struct {
	Admin     string `default:"127.0.0.1:8143" placeholder:"ADDRESS" help:"The running proxy's admin address, host:port or a URL (${default})."`
	TokenFile string `placeholder:"FILE" help:"File with the admin API's token, where it wants one."`
	JSON      bool   `name:"json" help:"Print the API's JSON (docs/admin.md) instead of a table."`
}

// client is who asks.
func (f adminFlags) client() (*admin.Client, error) {
	c := &admin.Client{Address: f.Admin}
	if f.TokenFile != "" {
		token, err := wiring.Secret(f.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		c.Token = token
	}
	return c, nil
}

// ask is one question to a running proxy: get asks it, show prints the answer for
// people.
func ask[T any](env environment, f adminFlags, get func(context.Context, *admin.Client) (T, error), show func(io.Writer, T) error) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	answer, err := get(env.ctx, c)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return errors.New("interrupted")
		}
		switch {
		case !errors.Is(err, admin.ErrToken):
			return err
		case f.TokenFile == "":
			return fmt.Errorf("the proxy at %s wants its token: name the file that admin { token_file = … } has there with --token-file", f.Admin)
		default:
			return fmt.Errorf("the proxy at %s has another token than %s: name the file that admin { token_file = … } has there with --token-file", f.Admin, f.TokenFile)
		}
	}
	if f.JSON {
		e := json.NewEncoder(env.stdout)
		e.SetIndent("", "  ")
		return e.Encode(answer)
	}
	return show(env.stdout, answer)
}

// table prints rows in columns.
func table(w io.Writer, head []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// dash stands where a column has nothing. What a client chose (a user's name) can't
// draw on the terminal: unprintable characters are shown as such.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

// ago is a duration as a person reads it.
func ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0s"
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// size is a number of bytes as a person reads it, in powers of 1000.
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

package imapclient

import (
	"context"
	"fmt"
	"strings"

	"imapproxy/proxy/wire"
)

// Do sends a command without literals and reads its answer; onUntagged is described at Answer. An answer of
// NO or BAD is returned as a *Refusal.
func (c *Client) Do(ctx context.Context, command string, onUntagged func(Untagged) bool) (wire.Response, error) {
	tag := c.tag()
	return c.exchange(ctx, tag+" "+command+"\r\n", tag, verbOf(command), onUntagged)
}

// exchange sends text and reads until the answer to tag.
func (c *Client) exchange(ctx context.Context, text, tag, verb string, onUntagged func(Untagged) bool) (wire.Response, error) {
	var resp wire.Response
	err := c.within(ctx, func() (err error) {
		if err := c.send(text); err != nil {
			return err
		}
		if resp, err = c.Answer(tag, false, onUntagged); err != nil {
			return err
		}
		switch resp.Status {
		case "OK", "NO", "BAD":
			return nil
		}
		return fmt.Errorf("%w: a tagged answer without OK, NO or BAD", ErrProtocol)
	})
	if err != nil {
		return resp, err
	}
	if resp.Status != "OK" {
		return resp, refusal(verb, resp)
	}
	return resp, nil
}

func (c *Client) send(text string) error {
	c.out = append(c.out, text...)
	return c.Flush()
}

func refusal(verb string, resp wire.Response) error {
	return &Refusal{Verb: verb, Status: resp.Status, Code: resp.Code, Text: resp.Text}
}

func verbOf(command string) string {
	verb, rest, _ := strings.Cut(command, " ")
	if verb == "UID" {
		sub, _, _ := strings.Cut(rest, " ")
		verb += " " + sub
	}
	return verb
}

// within runs f, which reads and writes, and interrupts it when ctx ends. Any error of f breaks the
// connection, since f may have stopped in the middle of a response.
func (c *Client) within(ctx context.Context, f func() error) error {
	if c.broken != nil {
		return c.broken
	}
	stop := c.conn.Until(ctx)
	err := f()
	if stop() && err != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.broken = &Broken{Err: err}
		return c.broken
	}
	return nil
}

// Noop sends NOOP.
func (c *Client) Noop(ctx context.Context) error {
	_, err := c.Do(ctx, "NOOP", nil)
	return err
}

// Enable enables the named capabilities that aren't enabled yet (RFC 5161 §3.1). If the backend doesn't
// confirm one of them, Enable returns ErrNotEnabled.
func (c *Client) Enable(ctx context.Context, names ...string) error {
	var missing []string
	for _, name := range names {
		if !c.enabled.Has(name) {
			missing = append(missing, strings.ToUpper(name))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var now wire.Caps
	_, err := c.Do(ctx, "ENABLE "+strings.Join(missing, " "), func(u Untagged) bool {
		if !u.Is("ENABLED") {
			return false
		}
		now = append(now, wire.ParseCaps(u.Rest)...)
		return true
	})
	if err != nil {
		return err
	}
	for _, name := range missing {
		if !now.Has(name) {
			return fmt.Errorf("%w: %s", ErrNotEnabled, name)
		}
		c.AssumeEnabled(name)
	}
	return nil
}

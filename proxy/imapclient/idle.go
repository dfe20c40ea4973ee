package imapclient

import (
	"context"
	"fmt"

	"imapproxy/proxy/wire"
)

// BeginIdle sends IDLE and waits for the continuation request (RFC 9051 §6.3.13). tag is the tag of a
// session's client, or "" for a new tag; BeginIdle returns the tag for EndIdle. A DONE that is sent before
// the continuation request would be lost on Cyrus, which reads IDLE and DONE at once and then waits for
// another DONE.
func (c *Client) BeginIdle(ctx context.Context, tag string, onUntagged func(Untagged) bool) (string, error) {
	if tag == "" {
		tag = c.tag()
	}
	var resp wire.Response
	err := c.within(ctx, func() (err error) {
		if err := c.send(tag + " IDLE\r\n"); err != nil {
			return err
		}
		resp, err = c.Answer(tag, true, onUntagged)
		return err
	})
	if err == nil && resp.Tag != "+" {
		err = refusal("IDLE", resp)
	}
	return tag, err
}

// Listen reads untagged responses during IDLE or NOTIFY: it waits for one response, and also reads those that
// arrived with it.
func (c *Client) Listen(ctx context.Context, onUntagged func(Untagged) bool) error {
	return c.within(ctx, func() error {
		for {
			resp, err := c.Next()
			switch {
			case err != nil:
				return err
			case resp.Tag != "*":
				return fmt.Errorf("%w: no answer and no continuation request is due", ErrProtocol)
			}
			if err := c.untagged(resp, "", onUntagged); err != nil {
				return err
			}
			if !c.r.HasBuffered() {
				return nil
			}
		}
	})
}

// EndIdle sends DONE and reads the answer to the IDLE with this tag (RFC 9051 §6.3.13).
func (c *Client) EndIdle(ctx context.Context, tag string, onUntagged func(Untagged) bool) (wire.Response, error) {
	resp, err := c.exchange(ctx, "DONE\r\n", tag, "IDLE", onUntagged)
	c.opt.TagInUse = ""
	return resp, err
}

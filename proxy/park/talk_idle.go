package park

import (
	"context"

	"imapproxy/proxy/wire"
)

// EndIdle sends DONE and reads until the answer of the client's IDLE, which it
// returns without its CRLF: the client's own, to be told when its DONE comes.
// RFC 9051 §6.3.13.
func (t *Talk) EndIdle(ctx context.Context, tag string) (answer []byte, err error) {
	resp, err := t.exchange(ctx, "DONE\r\n", tag, "IDLE", nil)
	t.opt.Taken = ""
	return resp.Line, err
}

// BeginIdle sends IDLE under the client's tag and waits until the backend agrees,
// so that no DONE comes with it: Cyrus reads both at once, and waits for another
// DONE for ever. RFC 9051 §6.3.13.
func (t *Talk) BeginIdle(ctx context.Context, tag string) error {
	return t.beginIdle(ctx, tag, nil)
}

func (t *Talk) beginIdle(ctx context.Context, tag string, take func(untagged) bool) error {
	var refusal error
	err := t.within(ctx, func() error {
		if _, err := t.conn.Write([]byte(tag + " IDLE\r\n")); err != nil {
			return err
		}
		for {
			resp, err := t.response()
			switch {
			case err != nil:
				return err
			case resp.Tag == "+":
				return nil
			case resp.Tag == tag:
				refusal = &Refusal{Verb: "IDLE", Status: resp.Status, Code: resp.Code, Text: resp.Text}
				return nil
			case resp.Tag != "*":
				return errAnswer
			}
			if err := t.untagged(resp, take); err != nil {
				return err
			}
		}
	})
	if err == nil {
		err = refusal
	}
	return err
}

// startIdle sends IDLE and waits until the backend agrees.
func (t *Talk) startIdle(ctx context.Context, take func(untagged) bool) (tag string, err error) {
	tag = t.tag()
	return tag, t.beginIdle(ctx, tag, take)
}

// listen reads untagged responses: one, and those that have come with it.
func (t *Talk) listen(ctx context.Context, take func(untagged) bool) error {
	return t.within(ctx, func() error {
		for {
			resp, err := t.response()
			switch {
			case err != nil:
				return err
			case resp.Tag != "*":
				return errAnswer
			}
			if err := t.untagged(resp, take); err != nil {
				return err
			}
			if !t.r.HasBuffered() {
				return nil
			}
		}
	})
}

func (t *Talk) response() (wire.Response, error) {
	if !t.r.HasBuffered() {
		t.conn.QuickAck()
	}
	return t.r.ReadResponse()
}

package authpolicy

import (
	"context"
	"errors"
	"strings"
	"time"

	"imapproxy/proxy/auth"
)

// Answer is what happens to a login. The zero value: it goes on at once.
type Answer struct {
	Refused bool
	Wait    time.Duration // before it goes on
	Msg     string        // the server's words, fit for a log
	Err     error         // there was no answer; Refused is by Options.RejectOnFail
}

// Before asks about a login whose password hasn't been checked.
func (c *Client) Before(ctx context.Context, l Login) Answer {
	if c == nil || !c.o.CheckBefore {
		return Answer{}
	}
	return c.ask(ctx, l)
}

// After asks about a login whose password was right.
func (c *Client) After(ctx context.Context, l Login) Answer {
	if c == nil || !c.o.CheckAfter {
		return Answer{}
	}
	return c.ask(ctx, l)
}

// ask asks when it is the turn of the client's network, as sources of credentials are asked.
func (c *Client) ask(ctx context.Context, l Login) Answer {
	if why := c.pausing(); why != "" {
		c.o.Telemetry.PolicyUnasked("allow")
		return Answer{Refused: c.o.RejectOnFail && !c.o.LogOnly, Err: errors.New("not asked, since it doesn't answer: " + why)}
	}
	begun, m := c.o.Now(), c.o.message(l)
	var said answer
	asked := false
	v := c.asking.Ask(ctx, l.Credentials, func(ctx context.Context) auth.Verdict {
		asked = true
		var err error
		if said, err = c.allow(ctx, m); err != nil {
			return auth.Unavailable{Err: auth.Said(err)}
		}
		return auth.Accepted{}
	})
	var a Answer
	outcome := "allowed"
	switch v := v.(type) {
	case auth.Unavailable:
		if outcome = "failed"; ctx.Err() == nil && asked { // otherwise the client is gone, or the places were taken
			c.answered(v.Err)
		}
		a = Answer{Refused: c.o.RejectOnFail, Err: v.Err}
	default:
		c.answered(nil)
		if a.Msg = words(said.Msg, m.Hash); *said.Status < 0 {
			a.Refused, outcome = true, "refused"
		} else if *said.Status > 0 {
			a.Wait, outcome = min(time.Duration(min(*said.Status, 1<<20))*time.Second, maxDelay), "delayed"
		}
	}
	c.o.Telemetry.Policy("allow", outcome, c.o.Now().Sub(begun))
	if c.o.LogOnly {
		a.Refused, a.Wait = false, 0
	}
	return a
}

// words makes the server's words fit for a log. They are withheld if they repeat what was sent of a password.
func words(msg, hash string) string {
	if msg == "" || strings.Contains(msg, hash) {
		return ""
	}
	return auth.Said(errors.New(msg)).Error()
}

// Report says how a login has ended. refused: because of an Answer. It doesn't wait: a report is dropped if too many wait.
func (c *Client) Report(l Login, success, refused bool) {
	if c == nil || !c.o.Report {
		return
	}
	m := c.o.message(l)
	m.Success, m.PolicyReject = ends(success, refused)
	select {
	case <-c.closing:
	default:
		select {
		case c.reports <- m:
			return
		default:
		}
	}
	c.o.Telemetry.PolicyUnasked("report")
}

// send sends reports until Close, and those that wait then.
func (c *Client) send(ctx context.Context) {
	for {
		select {
		case m := <-c.reports:
			c.report(ctx, m)
			continue
		default:
		}
		select {
		case m := <-c.reports:
			c.report(ctx, m)
		case <-c.closing:
			select {
			case m := <-c.reports:
				c.report(ctx, m)
			default:
				return
			}
		}
	}
}

// report sends one.
func (c *Client) report(ctx context.Context, m message) {
	if context.Cause(ctx) != nil {
		c.o.Telemetry.PolicyUnasked("report")
		return
	}
	begun := c.o.Now()
	within, cancel := context.WithTimeout(ctx, c.asking.Timeout())
	defer cancel()
	_, err := c.post(within, "report", m)
	outcome := "reported"
	if err != nil {
		outcome = "failed"
		err = auth.Said(err)
	}
	c.answered(err)
	c.o.Telemetry.Policy("report", outcome, c.o.Now().Sub(begun))
}

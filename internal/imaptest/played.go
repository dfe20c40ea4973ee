package imaptest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

func (c *playedConn) record(e Entry) {
	e.Uncompare = c.skipCompare
	c.stream.Entries = append(c.stream.Entries, e)
}

// next is the next response, from the queue or the connection.
func (c *playedConn) next(p *player) (Response, error) {
	if len(c.queue) > 0 {
		r := c.queue[0]
		c.queue = c.queue[1:]
		return r, nil
	}
	return c.read(p)
}

func (c *playedConn) read(p *player) (Response, error) {
	r, err := c.NextWithin(p.timeout)
	if err == nil {
		c.record(Entry{Response: r})
		return r, nil
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("nothing came within %s (%d bytes of a response had: %.60q)", p.timeout, len(r.Text), r.Text)
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("the server closed: %w", err)
	}
	return r, err
}

// send plays a C line: its literals wait for the server's "+".
func (c *playedConn) send(p *player, line string) error {
	parts, err := splitLine(line, p.vars, p.s.payload)
	if err != nil {
		return err
	}
	tag := commandTag(parts[0].text)
	c.record(Entry{Sent: line, Tags: []string{tag}})
	for i, part := range parts {
		switch {
		case part.payload != nil:
			err = c.SendPayload(*part.payload)
		case i == len(parts)-1 && !part.bare:
			err = c.SendRaw(part.text + "\r\n")
		default:
			err = c.SendRaw(part.text)
		}
		if err != nil {
			return fmt.Errorf("sending %.60q: %w", line, c.withTail(err))
		}
		if !part.sync {
			continue
		}
		refused, err := c.awaitContinuation(p, tag)
		if err != nil {
			return fmt.Errorf("waiting for a literal's \"+\": %w", c.withTail(err))
		}
		if refused {
			return nil // the tagged answer is in the queue
		}
	}
	return nil
}

// awaitContinuation reads to "+", which it drops, or to the command's tagged
// answer.
func (c *playedConn) awaitContinuation(p *player, tag string) (refused bool, err error) {
	for {
		r, err := c.read(p)
		if err != nil {
			return false, err
		}
		if r.Tag() == "+" {
			return false, nil
		}
		c.queue = append(c.queue, r)
		if r.Tag() == tag {
			return true, nil
		}
	}
}

// expect plays an S line.
func (c *playedConn) expect(p *player, src string) error {
	if src == "..." {
		c.skip = true
		return nil
	}
	if rest, ok := strings.CutPrefix(src, "... "); ok {
		c.skip, src = true, rest
	}
	return c.unordered(p, []string{src})
}

// unordered wants all of the patterns, in whatever order.
func (c *playedConn) unordered(p *player, patterns []string) error {
	left := slices.Clone(patterns)
	skip := c.skip
	c.skip = false
	for len(left) > 0 {
		r, err := c.next(p)
		if err != nil {
			return c.failure(left, "", err)
		}
		at, err := c.matchAny(p, left, r)
		if err != nil {
			return err
		}
		if at >= 0 {
			left = slices.Delete(left, at, at+1)
			continue
		}
		if !skip || r.Tag() != "*" {
			return c.failure(left, r.String(), nil)
		}
	}
	return nil
}

// matchAny is the index of the first pattern that fits, -1 when none does.
func (c *playedConn) matchAny(p *player, patterns []string, r Response) (int, error) {
	for i, src := range patterns {
		want, err := compilePattern(src, p.vars, p.s.payload)
		if err != nil {
			return -1, err
		}
		if vars, ok := want.match(r); ok {
			maps.Copy(p.vars, vars)
			return i, nil
		}
	}
	return -1, nil
}

func (c *playedConn) optional(p *player, src string) error {
	if c.skip {
		return nil // whatever is untagged may come anyway
	}
	r, err := c.next(p)
	if err != nil {
		return c.failure([]string{src + " (optional)"}, "", err)
	}
	at, err := c.matchAny(p, []string{src}, r)
	if at < 0 {
		c.queue = slices.Insert(c.queue, 0, r)
	}
	return err
}

func (c *playedConn) expectEOF(p *player) error {
	for {
		r, err := c.next(p)
		switch {
		case err == nil && r.Tag() == "*":
			continue
		case err == nil:
			return c.failure([]string{"(closed)"}, r.String(), nil)
		case isGone(err) && !errors.Is(err, io.ErrUnexpectedEOF):
			c.record(Entry{EOF: true})
			return nil
		}
		return c.failure([]string{"(closed)"}, "", err)
	}
}

func (c *playedConn) quiet(arg string) error {
	d, err := time.ParseDuration(arg)
	if err != nil {
		return err
	}
	if len(c.queue) > 0 {
		return c.failure([]string{"(nothing for " + arg + ")"}, c.queue[0].String(), nil)
	}
	r, err := c.NextWithin(d)
	switch {
	case err == nil:
		c.record(Entry{Response: r})
		return c.failure([]string{"(nothing for " + arg + ")"}, r.String(), nil)
	case errors.Is(err, os.ErrDeadlineExceeded) && r.Text == "":
		return nil
	}
	return c.failure([]string{"(nothing for " + arg + ")"}, "", err)
}

// failure says what was wanted, what came, and what was said before.
func (c *playedConn) failure(want []string, got string, err error) error {
	var b strings.Builder
	fmt.Fprintf(&b, "connection %q\n  want  S: %s", c.stream.Name, strings.Join(want, "\n        S: "))
	if err != nil {
		fmt.Fprintf(&b, "\n  but   %v", err)
		return fmt.Errorf("%w%s", &scriptError{b.String(), err}, c.tail(0))
	}
	fmt.Fprintf(&b, "\n  got   S: %s", got)
	return &scriptError{b.String() + c.tail(1), nil}
}

func (c *playedConn) withTail(err error) error { return fmt.Errorf("%w%s", err, c.tail(0)) }

// tail is the end of the dialogue, less its last n entries.
func (c *playedConn) tail(n int) string {
	e := c.stream.Entries
	e = e[:max(0, len(e)-n)]
	if len(e) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n  before that:")
	for _, e := range e[max(0, len(e)-12):] {
		fmt.Fprintf(&b, "\n        %.300s", e.String())
	}
	return b.String()
}

// scriptError is a departure from the script.
type scriptError struct {
	text  string
	cause error
}

func (e *scriptError) Error() string { return e.text }
func (e *scriptError) Unwrap() error { return e.cause }

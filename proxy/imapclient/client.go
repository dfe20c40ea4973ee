package imapclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"strconv"
	"strings"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/wire"
)

// Bounds of a Client whose options are zero.
const (
	DefaultMaxLine    = 4 << 20  // octets of one response's lines: the UIDs of 380,000 messages at worst
	DefaultMaxLiteral = 64 << 10 // octets of a literal; few responses have any but a mailbox name
)

// Options are a Client's. The zero value is usable.
type Options struct {
	// Follow is shown each untagged response before all others. Its error breaks the
	// connection. nil: none.
	Follow func(Untagged) error

	// Forward gets each untagged response that the command underway doesn't claim, with its
	// CRLF, lent for the call. It is for a session's connection, where the client has to see
	// all of them in their order. BYE is always forwarded. nil: they are dropped.
	Forward func(response []byte)

	// Heard is called for each response. nil: none.
	Heard func()

	// TagPrefix stands before the number in each tag. Empty: "ip".
	TagPrefix string

	// TagInUse is a tag that the connection's IDLE has, which the session's client began. It
	// is left out until EndIdle.
	TagInUse string

	// Enabled is what has been enabled on the connection before.
	Enabled []string

	// MaxLine and MaxLiteral bound the octets of one response. Zero: the defaults.
	MaxLine, MaxLiteral int

	// MaxTotal bounds the octets of all responses together. Zero: they have no bound.
	MaxTotal int
}

// Client sends commands on a backend connection, which it owns until Release, and reads their
// answers. It isn't safe for concurrent use.
//
// Do, Enable, Noop, BeginIdle, Listen, EndIdle and Wait are bound to a context. After an error
// of theirs that is a *Broken, the connection has to be closed; after any other, it is at a
// response boundary and can be used on. Queue, Append, Flush, Next and Answer are the steps that
// they consist of; a caller of those bounds their time (conn.Conn.Until) and closes the connection
// after any error.
type Client struct {
	conn    *conn.Conn
	r       *wire.Reader
	opt     Options
	out     []byte // what the next Flush sends
	tags    int    // how many were made
	ignored string // the tag of a command whose answer is ignored; "": there is none
	total   int    // octets of all responses so far
	enabled wire.Caps
	broken  *Broken
}

// New makes a Client of a connection on which no command is underway but an IDLE.
func New(c *conn.Conn, opt Options) *Client {
	opt.TagPrefix = cmp.Or(opt.TagPrefix, "ip")
	opt.MaxLine = cmp.Or(opt.MaxLine, DefaultMaxLine)
	opt.MaxLiteral = cmp.Or(opt.MaxLiteral, DefaultMaxLiteral)
	client := &Client{conn: c, r: wire.NewReader(c, opt.MaxLine, opt.MaxLiteral), opt: opt}
	for _, name := range opt.Enabled {
		client.AssumeEnabled(name)
	}
	return client
}

// Release ends the client's use of the connection: bytes that were read beyond the last answer
// are put back. Its error is the *Broken of a connection that has to be closed.
func (c *Client) Release() error {
	c.conn.Unread(c.r.Buffered())
	if c.broken != nil {
		return c.broken
	}
	return nil
}

// StartTLS makes the connection a TLS one. ErrInjection means that the backend said more in the
// clear than was read.
func (c *Client) StartTLS(ctx context.Context, cfg *tls.Config) error {
	if c.r.HasBuffered() {
		return ErrInjection
	}
	if err := c.conn.Client(ctx, cfg); err != nil {
		return err
	}
	c.r = wire.NewReader(c.conn, c.opt.MaxLine, c.opt.MaxLiteral)
	return nil
}

// Enabled is what has been enabled on the connection, in upper case.
func (c *Client) Enabled() wire.Caps { return c.enabled }

// AssumeEnabled takes a capability for enabled from now on.
func (c *Client) AssumeEnabled(name string) { c.enabled = append(c.enabled, strings.ToUpper(name)) }

// Queue begins a command: a tag, a space and text are sent by the next Flush. The text includes
// the CRLF, unless Append adds the rest. It returns the tag.
func (c *Client) Queue(text string) (tag string) {
	tag = c.tag()
	c.out = append(c.out, tag...)
	c.out = append(c.out, ' ')
	c.out = append(c.out, text...)
	return tag
}

// Append has add append to what the next Flush sends.
func (c *Client) Append(add func(out []byte) []byte) { c.out = add(c.out) }

// Flush sends in one write what was queued. Its memory is cleared: it may have held a password.
func (c *Client) Flush() error {
	_, err := c.conn.Write(c.out)
	clear(c.out)
	c.out = c.out[:0]
	return err
}

// tag makes a tag that no command in flight has.
func (c *Client) tag() string {
	for {
		c.tags++
		if tag := c.lastTag(); tag != c.opt.TagInUse {
			return tag
		}
	}
}

func (c *Client) lastTag() string { return c.opt.TagPrefix + strconv.Itoa(c.tags) }

// IgnoreAnswer has the answer to a command ignored where it comes before another's.
func (c *Client) IgnoreAnswer(tag string) { c.ignored = tag }

// IgnoresAnswer says whether an answer that is to be ignored has yet to come.
func (c *Client) IgnoresAnswer() bool { return c.ignored != "" }

// SkipAnswer reads until the answer that is to be ignored has come, if it has yet to.
func (c *Client) SkipAnswer(onUntagged func(Untagged) bool) error {
	if c.ignored == "" {
		return nil
	}
	_, err := c.Answer(c.ignored, false, onUntagged)
	return err
}

// Untagged is one untagged response.
type Untagged struct {
	wire.ResponseHead
	Response wire.Response
	During   string // the tag of the command whose answer is awaited; "": that of none
}

// Is says whether the response has this name, such as "EXISTS".
func (u Untagged) Is(name string) bool { return strings.EqualFold(string(u.Name), name) }

// Next reads one response. BYE is a *Bye.
func (c *Client) Next() (wire.Response, error) {
	// Cyrus has Nagle's algorithm on: without this the second segment of an answer waits for
	// our delayed acknowledgement, 44 ms.
	if !c.r.HasBuffered() {
		c.conn.QuickAck()
	}
	resp, err := c.r.ReadResponse()
	if err != nil {
		return wire.Response{}, err
	}
	if c.opt.Heard != nil {
		c.opt.Heard()
	}
	c.total += len(resp.Line) + 2
	switch {
	case c.opt.MaxTotal > 0 && c.total > c.opt.MaxTotal:
		return wire.Response{}, fmt.Errorf("%w: responses of more than %d octets", ErrProtocol, c.opt.MaxTotal)
	case resp.Tag == "":
		return wire.Response{}, fmt.Errorf("%w: a line that is no response", ErrProtocol)
	case resp.Tag == "*" && resp.Status == "BYE":
		c.forward(resp)
		return wire.Response{}, &Bye{resp}
	}
	return resp, nil
}

// Answer reads until the tagged response to a command, or, with plus, until a continuation
// request. Each untagged response before it is shown to onUntagged, which says whether it claims
// it; else it is forwarded. nil claims none.
func (c *Client) Answer(tag string, plus bool, onUntagged func(Untagged) bool) (wire.Response, error) {
	for {
		resp, err := c.Next()
		if err != nil {
			return resp, err
		}
		switch resp.Tag {
		case "*":
			if err := c.untagged(resp, tag, onUntagged); err != nil {
				return resp, err
			}
		case "+":
			if !plus {
				return resp, fmt.Errorf("%w: a continuation request where none is due", ErrProtocol)
			}
			return resp, nil
		case c.ignored:
			c.ignored = ""
			if resp.Tag == tag {
				return resp, nil
			}
		case tag:
			return resp, nil
		default:
			return resp, &StrayError{Tag: resp.Tag, Last: c.lastTag()}
		}
	}
}

func (c *Client) untagged(resp wire.Response, during string, onUntagged func(Untagged) bool) error {
	u := Untagged{ResponseHead: wire.ParseResponseHead(resp.Line), Response: resp, During: during}
	if c.opt.Follow != nil {
		if err := c.opt.Follow(u); err != nil {
			return err
		}
	}
	if onUntagged == nil || !onUntagged(u) {
		c.forward(resp)
	}
	return nil
}

func (c *Client) forward(resp wire.Response) {
	if c.opt.Forward != nil {
		c.opt.Forward(append(resp.Line, '\r', '\n'))
	}
}

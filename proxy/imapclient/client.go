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
	DefaultMaxLine    = 4 << 20  // octets of the lines of one response; the UIDs of 380,000 messages take that much at worst
	DefaultMaxLiteral = 64 << 10 // octets of a literal; few responses have literals other than mailbox names
)

// Options are the settings of a Client. The zero value is usable.
type Options struct {
	// Follow is called with each untagged response, before onUntagged functions. If it returns an error, the
	// connection is broken. nil: it isn't called.
	Follow func(Untagged) error

	// Forward is called with each untagged response that the current command doesn't claim, with its CRLF;
	// the slice is valid only during the call. It serves a session's connection, whose client has to see all
	// such responses in order. BYE is always forwarded. nil: unclaimed responses are dropped.
	Forward func(response []byte)

	// Heard is called after each response. nil: it isn't called.
	Heard func()

	// TagPrefix is the beginning of each tag, before the number. Empty: "ip".
	TagPrefix string

	// TagInUse is the tag of an IDLE that the session's client began on the connection. The Client doesn't
	// use this tag until EndIdle.
	TagInUse string

	// Enabled lists the capabilities that were enabled on the connection before.
	Enabled []string

	// MaxLine and MaxLiteral bound the octets of one response. Zero: the defaults.
	MaxLine, MaxLiteral int

	// MaxTotal bounds the octets of all responses in total. Zero: no bound.
	MaxTotal int
}

// Client sends commands on a backend connection, which it owns until Release, and reads the answers. It isn't
// safe for concurrent use.
//
// Do, Enable, Noop, BeginIdle, Listen, EndIdle and Wait are bound to a context. If one of them returns a
// *Broken, the connection has to be closed; after other errors it is at a response boundary and can still be
// used. Queue, Append, Flush, Next and Answer are the single steps; a caller that uses them bounds their time
// (conn.Conn.Until) and closes the connection after any error.
type Client struct {
	conn    *conn.Conn
	r       *wire.Reader
	opt     Options
	out     []byte // the bytes that the next Flush sends
	tags    int    // number of the tags made so far
	ignored string // the tag of a command whose answer is ignored; "": no answer is ignored
	total   int    // octets of all responses so far
	enabled wire.Caps
	broken  *Broken
}

// New makes a Client of a connection on which no command is in progress except possibly an IDLE.
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

// Release ends the client's use of the connection. Bytes that were read beyond the last answer go back to the
// connection. Release returns the *Broken of a connection that has to be closed.
func (c *Client) Release() error {
	c.conn.Unread(c.r.Buffered())
	if c.broken != nil {
		return c.broken
	}
	return nil
}

// StartTLS starts TLS on the connection. ErrInjection means that the backend sent more bytes in the clear
// than its answer to STARTTLS.
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

// Enabled returns the capabilities that are enabled on the connection, in upper case.
func (c *Client) Enabled() wire.Caps { return c.enabled }

// AssumeEnabled adds a capability to the enabled ones.
func (c *Client) AssumeEnabled(name string) { c.enabled = append(c.enabled, strings.ToUpper(name)) }

// Queue begins a command: the next Flush sends a tag, a space and text. The text ends with CRLF unless Append
// adds the rest of the command. Queue returns the tag.
func (c *Client) Queue(text string) (tag string) {
	tag = c.tag()
	c.out = append(c.out, tag...)
	c.out = append(c.out, ' ')
	c.out = append(c.out, text...)
	return tag
}

// Append calls add to append bytes to those that the next Flush sends.
func (c *Client) Append(add func(out []byte) []byte) { c.out = add(c.out) }

// Flush sends the queued bytes in one write, and then clears their memory, since they may contain a password.
func (c *Client) Flush() error {
	_, err := c.conn.Write(c.out)
	clear(c.out)
	c.out = c.out[:0]
	return err
}

// tag makes a tag that no command in progress has.
func (c *Client) tag() string {
	for {
		c.tags++
		if tag := c.lastTag(); tag != c.opt.TagInUse {
			return tag
		}
	}
}

func (c *Client) lastTag() string { return c.opt.TagPrefix + strconv.Itoa(c.tags) }

// IgnoreAnswer makes Answer skip the answer to the command with this tag if it comes before the awaited one.
func (c *Client) IgnoreAnswer(tag string) { c.ignored = tag }

// IgnoresAnswer says whether an ignored answer hasn't arrived yet.
func (c *Client) IgnoresAnswer() bool { return c.ignored != "" }

// SkipAnswer reads until the ignored answer has arrived, if there is one.
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
	During   string // the tag of the command whose answer is awaited; "": no answer is awaited
}

// Is says whether the response has this name, such as "EXISTS".
func (u Untagged) Is(name string) bool { return strings.EqualFold(string(u.Name), name) }

// Next reads one response. A BYE is returned as the error *Bye.
func (c *Client) Next() (wire.Response, error) {
	// Cyrus uses Nagle's algorithm: without QuickAck the second segment of an answer waits for a delayed
	// acknowledgement, 44 ms.
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

// Answer reads until the tagged response to a command, or, with plus, until a continuation request. It calls
// onUntagged with each untagged response before that. If onUntagged returns false or is nil, the response is
// forwarded.
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

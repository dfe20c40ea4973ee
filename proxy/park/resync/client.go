package resync

import (
	"cmp"
	"fmt"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/wire"
)

// Options are the settings of a Client. The zero value is for a connection on which no mailbox is selected.
type Options struct {
	// Forward is called with each untagged response that isn't the answer to a command of the Client, with
	// its CRLF; the slice is valid only during the call. On a session's connection the session's client must
	// see all of them, in the order in which they came. nil: there is no session.
	Forward func(response []byte)

	// Messages is how many messages the session's client has been told of (EXISTS minus later expunges).
	Messages uint32

	// Selected says whether a mailbox is selected, and ReadOnly whether by EXAMINE.
	Selected, ReadOnly bool

	// Enabled lists the capabilities that were enabled on this connection before.
	Enabled []string

	// TagInUse is the tag of the client's IDLE, which is still in use on the connection.
	TagInUse string

	// MaxLine bounds the octets of a response. Zero: imapclient.DefaultMaxLine.
	MaxLine int
}

// Client is an IMAP client that knows which mailbox is selected and counts its messages. It sends the proxy's
// own commands on a session's connection, which the session's client doesn't see, or on a connection without
// a session. It owns the connection until Release.
//
// After an error that is an *imapclient.Broken, the connection has to be closed. After other errors it is at
// a response boundary, and a session's connection may go back to its session.
type Client struct {
	*imapclient.Client
	caps     wire.Caps
	maxLine  int
	messages uint32 // EXISTS minus expunges
	shifts   int    // how often messages were added or removed
	tries    int    // how often the set of messages was requested
	selected bool
	readOnly bool
}

// NewClient makes a Client of a connection that is logged in to a backend with these capabilities. No command
// may be in progress except an IDLE, which EndIdle ends.
func NewClient(c *conn.Conn, caps wire.Caps, opt Options) *Client {
	client := &Client{
		caps: caps, maxLine: cmp.Or(opt.MaxLine, imapclient.DefaultMaxLine),
		messages: opt.Messages, selected: opt.Selected, readOnly: opt.ReadOnly,
	}
	client.Client = imapclient.New(c, imapclient.Options{
		Follow: client.follow, Forward: opt.Forward, Enabled: opt.Enabled, TagInUse: opt.TagInUse, MaxLine: client.maxLine,
	})
	return client
}

// Messages returns how many messages the selected mailbox has after all responses so far.
func (c *Client) Messages() uint32 { return c.messages }

// Tries returns how often the set of messages was requested.
func (c *Client) Tries() int { return c.tries }

// Selected says whether a mailbox is selected now.
func (c *Client) Selected() bool { return c.selected }

// ReadOnly says whether it is selected by EXAMINE, or the backend says that it can't be changed.
func (c *Client) ReadOnly() bool { return c.readOnly }

// follow counts messages as a client does. RFC 9051 §7.4.1, §7.5.1; RFC 7162 §3.2.10.
func (c *Client) follow(u imapclient.Untagged) error {
	switch {
	case u.Is("EXISTS"):
		c.messages = u.Number
	case u.Is("EXPUNGE"):
		if u.Number == 0 || u.Number > c.messages {
			return fmt.Errorf("%w: EXPUNGE of a message that isn't there", errProtocol)
		}
		c.messages--
	case u.Is("VANISHED"):
		earlier, uids, err := parseVanished(u.Rest)
		if err != nil {
			return err
		}
		if earlier {
			return nil // from before the SELECT: EXISTS doesn't include them
		}
		if uids.Count() > c.messages {
			return fmt.Errorf("%w: VANISHED of more messages than there are", errProtocol)
		}
		c.messages -= uids.Count()
	default:
		return nil
	}
	c.shifts++
	return nil
}

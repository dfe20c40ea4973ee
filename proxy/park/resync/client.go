package resync

import (
	"cmp"
	"fmt"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/wire"
)

// Options are a Client's. The zero value is for a connection on which nothing is selected.
type Options struct {
	// Forward gets each untagged response that isn't the answer to a command of the
	// Client's, whole, with its CRLF, lent for the call: on a session's connection all of
	// it is the client's to see, in the order in which it came. nil: there is no
	// client.
	Forward func(response []byte)

	// Messages is how many messages the session's client has been told of (EXISTS, less those
	// expunged since).
	Messages uint32

	// Selected says whether a mailbox is selected, and ReadOnly whether by
	// EXAMINE.
	Selected, ReadOnly bool

	// Enabled is what has been enabled on this connection before.
	Enabled []string

	// TagInUse is a tag that is in use on the connection, that of the client's IDLE.
	TagInUse string

	// MaxLine bounds a response. Zero: imapclient.DefaultMaxLine.
	MaxLine int
}

// Client is an IMAP client that knows which mailbox is selected and counts its messages. It sends
// commands of the proxy's own on a session's connection, hidden from the session's client, or on
// a connection that no session has. It owns the connection until Release.
//
// After an error that is an *imapclient.Broken, the connection has to be closed. After any other
// it is at a response boundary, and a session's may be given back to its session.
type Client struct {
	*imapclient.Client
	caps     wire.Caps
	maxLine  int
	messages uint32 // how many the backend has announced, less those gone
	shifts   int    // how often messages came or went
	tries    int    // how often the set of messages was asked for
	selected bool
	readOnly bool
}

// NewClient makes a Client of a connection that is logged in, to a backend with these
// capabilities. Nothing may be in flight on it but an IDLE, which EndIdle ends.
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

// Messages is how many messages the selected mailbox has after all that has come.
func (c *Client) Messages() uint32 { return c.messages }

// Tries is how often the set of messages was asked for.
func (c *Client) Tries() int { return c.tries }

// Selected says whether a mailbox is selected now.
func (c *Client) Selected() bool { return c.selected }

// follow counts messages as a client does. RFC 9051 §7.4.1, §7.5.1; RFC 7162
// §3.2.10.
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
			return nil // of before the SELECT: its EXISTS doesn't have them
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

package dev

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/emersion/go-imap/v2/imapclient"
)

// A Client is a mail client that has selected INBOX and is in IDLE, like a phone most of the time.
type Client struct {
	// Told receives the number of messages from each EXISTS of the server. It is never closed; an
	// element that isn't received is dropped.
	Told <-chan uint32

	conn   net.Conn
	client *imapclient.Client
	idle   *imapclient.IdleCommand
}

// Idle logs a user in at an address without TLS, selects INBOX and begins IDLE. The
// caller closes the client.
func Idle(ctx context.Context, address, user string) (*Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	told := make(chan uint32, 16)
	c := &Client{Told: told, conn: conn}
	c.client = imapclient.New(conn, &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages == nil {
				return
			}
			select {
			case told <- *data.NumMessages:
			default:
			}
		},
	}})
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends what waits below
	defer stop()
	if err := c.client.Login(user, user).Wait(); err != nil {
		return nil, c.failed("login", err)
	}
	if _, err := c.client.Select("INBOX", nil).Wait(); err != nil {
		return nil, c.failed("select", err)
	}
	if c.idle, err = c.client.Idle(); err != nil {
		return nil, c.failed("idle", err)
	}
	return c, nil
}

// failed closes the client and adds the failed step to the error.
func (c *Client) failed(step string, err error) error {
	_ = c.Close()
	return fmt.Errorf("%s: %w", step, err)
}

// Addr is the client's own address, by which a server knows it.
func (c *Client) Addr() netip.AddrPort {
	if a, ok := c.conn.LocalAddr().(*net.TCPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

// Close closes the connection without LOGOUT, like a phone that is switched off.
func (c *Client) Close() error {
	err := c.client.Close()
	if c.idle != nil {
		_ = c.idle.Wait() // it ends with the connection
	}
	return err
}

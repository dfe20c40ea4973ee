package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// patience bounds each answer.
const patience = 30 * time.Second

// client is one IMAP client. Idle clients keep no buffer.
type client struct {
	net.Conn
	r *bufio.Reader // nil while the client is idle
}

// dialClient connects and reads the greeting.
func dialClient(addr string, secure bool, cfg *tls.Config) (*client, error) {
	tcp, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	c := &client{Conn: tcp}
	_ = c.SetDeadline(time.Now().Add(patience))
	if secure {
		t := tls.Client(tcp, cfg)
		if err := t.Handshake(); err != nil {
			_ = tcp.Close()
			return nil, err
		}
		c.Conn = t
	}
	line, err := c.line()
	if err == nil && !bytes.HasPrefix(line, []byte("* OK")) {
		err = fmt.Errorf("the greeting is %q", line)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) line() ([]byte, error) {
	if c.r == nil {
		c.r = readers.Get().(*bufio.Reader)
		c.r.Reset(c.Conn)
	}
	return c.r.ReadSlice('\n')
}

// rest gives the buffer back.
func (c *client) rest() {
	if c.r != nil && c.r.Buffered() == 0 {
		readers.Put(c.r)
		c.r = nil
	}
	_ = c.SetDeadline(time.Time{})
}

// send sends commands, and reads until the answer to the last of them, whose tag is given; "+": until a continuation request.
func (c *client) send(tag, commands string) error {
	if _, err := c.Write([]byte(commands)); err != nil {
		return err
	}
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		switch {
		case !bytes.HasPrefix(line, []byte(tag)):
		case tag == "+", bytes.HasPrefix(line[len(tag):], []byte(" OK")):
			return nil
		default:
			return fmt.Errorf("%q: %q", commands, line)
		}
	}
}

// login logs in and selects a mailbox.
func (c *client) login(user, mailbox string) error {
	if err := c.send("a", "a LOGIN "+user+" pw\r\n"); err != nil {
		return err
	}
	return c.send("b", "b SELECT "+mailbox+"\r\n")
}

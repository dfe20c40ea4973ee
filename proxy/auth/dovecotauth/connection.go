package dovecotauth

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/conn"
)

// connection is a connection to the auth process. One login at a time uses it.
type connection struct {
	net  net.Conn
	r    *bufio.Reader
	made time.Time
	id   uint32 // of the last request
	// plain and external: it offers these mechanisms.
	plain, external bool
}

// dial connects and does the handshake. Dovecot 2.4 sends its part only after the client's.
//
//	C: VERSION 1 1
//	C: CPID 4711
//	S: VERSION 1 2
//	S: MECH PLAIN plaintext
//	S: SPID …, CUID …, COOKIE …
//	S: DONE
func dial(ctx context.Context, address string, pid int) (*connection, error) {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer conn.Until(ctx, nc)()
	c := &connection{net: nc, r: bufio.NewReaderSize(nc, maxLine), made: time.Now()}
	if err := c.handshake(pid); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return c, nil
}

var (
	// errNoPlain is that passwords can't be checked there.
	errNoPlain = errors.New("it doesn't offer PLAIN")
	// errNoExternal is that users with certificates can't be looked up there.
	errNoExternal = errors.New("it doesn't offer EXTERNAL")
)

func (c *connection) handshake(pid int) error {
	if _, err := fmt.Fprintf(c.net, "VERSION\t1\t1\nCPID\t%d\n", max(pid, 1)); err != nil {
		return err
	}
	version := false
	for range maxHandshake {
		l, err := readLine(c.r)
		if err != nil {
			return err
		}
		switch l.command() {
		case "VERSION":
			if l.at(1) != "1" {
				return fmt.Errorf("%w: version %w", errProtocol, auth.Said(fmt.Errorf("%q", l.at(1))))
			}
			version = true
		case "MECH":
			c.plain = c.plain || l.at(1) == "PLAIN"
			c.external = c.external || l.at(1) == auth.MechanismExternal
		case "DONE":
			switch {
			case !version:
				return fmt.Errorf("%w: it doesn't say its version", errProtocol)
			case !c.plain:
				return errNoPlain
			}
			return nil
		}
		if !version {
			return fmt.Errorf("%w: it doesn't begin with its version", errProtocol)
		}
	}
	return fmt.Errorf("%w: its handshake doesn't end", errProtocol)
}

// maxHandshake bounds the lines of a handshake: Dovecot has about 15 mechanisms.
const maxHandshake = 100

// ask sends one request and reads its answer, OK or FAIL.
//
// no-penalty: Dovecot would delay answers about addresses that guess, beyond the time that a login may take; the
// proxy delays its own answers to them. nologin: no process of Dovecot's fetches the result afterwards.
//
// By EXTERNAL the request has, in place of a password, that the client's certificate is valid, and the name that it is for.
func (c *connection) ask(creds auth.Credentials) (line, error) {
	c.id++
	id := strconv.FormatUint(uint64(c.id), 10)
	b := make([]byte, 0, 512+2*len(creds.Password))
	mechanism := "PLAIN"
	if creds.Mechanism == auth.MechanismExternal {
		if mechanism = auth.MechanismExternal; !c.external {
			return nil, errNoExternal
		}
	}
	b = append(b, "AUTH\t"+id+"\t"+mechanism+"\tservice=imap\tnologin\tno-penalty\tsecured"...)
	if creds.TLS {
		b = append(b, "=tls"...)
	}
	b = appendAddress(b, "rip", creds.Client)
	b = appendAddress(b, "lip", creds.Local)
	if mechanism == auth.MechanismExternal {
		b = append(b, "\tvalid-client-cert\tcert_username="+escape(creds.User)+"\tresp=="...) // an empty response
	} else {
		message := slices.Concat([]byte{0}, []byte(creds.User), []byte{0}, []byte(creds.Password.Reveal()))
		b = append(b, "\tresp="...)
		b = base64.StdEncoding.AppendEncode(b, message)
		clear(message)
	}
	b = append(b, '\n')
	_, err := c.net.Write(b)
	clear(b)
	if err != nil {
		return nil, err
	}
	for {
		l, err := readLine(c.r)
		if err != nil {
			return nil, err
		}
		switch l.command() {
		case "OK", "FAIL":
			if l.at(1) != id {
				return nil, fmt.Errorf("%w: an answer to another request", errProtocol)
			}
			return l, nil
		case "CONT":
			return nil, fmt.Errorf("%w: %s isn't complete for it", errProtocol, mechanism)
		case "MECH", "SPID", "CUID", "COOKIE", "DONE", "VERSION": // it has read its configuration again
		default:
			return nil, fmt.Errorf("%w: an answer that isn't known", errProtocol)
		}
	}
}

func appendAddress(b []byte, name string, a netip.Addr) []byte {
	if !a.IsValid() {
		return b
	}
	b = append(b, "\t"+name+"="...)
	return a.Unmap().WithZone("").AppendTo(b)
}
